"""The lab: one file a question, run by `python -m experiments run NAME`.

    cli.py          the command line: list, run, report, reference, bench
    notebook.py     what the notebooks call
    questions/      one file a question, and nothing else
    parts/          what several questions share: networks, arms of seeds, tasks
    benchmarks/     `python -m experiments bench`, and its measured tables
    harness/        finds the questions, runs them, keeps what is finished
    report/         what is said of numbers: estimates, claims, figures, the page
    data/           MNIST, CIFAR-10, text, image folders, toy sets; and what stands in for them
    errors.py       what the person at the command line can put right
    results/        the committed records, and the table of their verdicts

Each imports only from those below it.
"""
