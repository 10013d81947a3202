"""The questions: a file `<name>.py` is the experiment that the command calls `<na-me>`, found by having

    a docstring  the question; then Part:, Command:, Runtime: and Answer: (measured, with n)
    Settings     a frozen dataclass
    PRESETS      {"smoke", "quick", "full"} -> Settings
    main         (settings, context) -> Result: raw values, claims with verdicts, tables
    figures      (result) -> {name: Figure or plots.Animation}, drawn from what the JSON holds alone

Measured times, which differ from run to run, stand under values["timing"], and the claims about them have
"timing" among their numbers.
"""
