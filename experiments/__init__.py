"""The lab: one file a question, run by `python -m experiments run NAME`.

An experiment is a file `experiments/<name>.py` (the command says `<na-me>`) that has

    a docstring  the question; then Part:, Command:, Runtime: and Answer: (measured, with n)
    Settings     a frozen dataclass
    PRESETS      {"smoke", "quick", "full"} -> Settings
    main         (settings, context) -> Result: raw values, claims with verdicts, tables
    figures      (result) -> {name: Figure or plots.Animation}, drawn from what the JSON holds alone

and is found by having them. Measured times, which differ from run to run, stand under values["timing"],
and the claims about them have "timing" among their numbers. Beside the experiments:

    cli.py          list, run, report, bench
    registry.py     finds the experiments
    context.py      what an experiment gets: key, device, data, progress bars, logs
    results.py      Claim, Table, Result; their JSON
    files.py        files that are there whole, or as they were
    environment.py  versions and hardware
    estimates.py    mean, sd and confidence interval over members; curves
    plots.py        canvas and palette; PNG and GIF
    networks.py     MLPs and ResNet-9
    classifiers.py  loss and scores of classifiers
    arms.py         arms x seeds as the members of one fit
    toy_tasks.py    the two toy classification tasks
    photos.py       CIFAR-10 standardised, sized and parted for them
    trials.py       training runs as trials of a search
    stopwatch.py    how long something takes
    runner.py       runs experiments, keeps what is finished
    request.py      whether a record answers what is asked again
    tensorboard.py  each fit's metrics as TensorBoard's logs
    page.py         pieces of HTML
    report.py       one self-contained HTML page, and the README's table
    notebook.py     what the notebooks call
    errors.py       what the person at the command line can put right
    data/           MNIST, CIFAR-10, text, image folders, toy sets; and what stands in for them
    benchmarks/     `python -m experiments bench`
    results/        the committed records
"""
