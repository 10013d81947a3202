"""What runs a question, whichever it is.

registry.py     finds the experiments
context.py      what an experiment gets: key, device, data, progress bars, logs
runner.py       runs experiments, keeps what is finished
schedule.py     one after the other or side by side, under a bar
processes.py    work in several processes
publish.py      a folder of results: records, figures, the page
request.py      whether a record answers what is asked again
unfinished.py   the finished pieces of a run of hours
records.py      the JSON that results are kept in
files.py        files that are there whole, or as they were
tensorboard.py  each fit's metrics as TensorBoard's logs
environment.py  versions and hardware
stopwatch.py    how long something takes
"""
