"""The lab: one file a question, run by `python -m experiments run NAME`.

An experiment is a file `experiments/<name>.py` (the command says `<na-me>`) that has

    a docstring  the question; then Part:, Command:, Runtime: and Answer: (measured, with n)
    Settings     a frozen dataclass
    PRESETS      {"smoke", "quick", "full"} -> Settings
    main         (settings, context) -> Result: raw values, claims with verdicts, tables
    figures      (result) -> {name: Figure}, drawn from what the JSON holds alone

and is found by having them. Beside the experiments:

    cli.py          list, run, report, bench
    registry.py     finds the experiments
    context.py      what an experiment gets: key, device, data, progress bars
    results.py      Claim, Table, Result; their JSON, written atomically
    environment.py  versions and hardware
    estimates.py    mean, sd and confidence interval over members; curves
    plots.py        canvas and palette
    networks.py     MLPs and ResNet-9
    classifiers.py  loss and scores of classifiers
    arms.py         arms x seeds as the members of one fit
    notebook.py     what the notebooks call
    report.py       one self-contained HTML page
    runner.py       runs experiments, keeps what is finished
    data/           MNIST, CIFAR-10, text, image folders, toy sets; and what stands in for them
    benchmarks/     `python -m experiments bench`
"""
