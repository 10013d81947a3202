"""What is said of numbers.

result.py       Claim, Table, Result: what an experiment returns
estimates.py    mean, sd and confidence interval over members; curves
plots.py        canvas and palette; PNG and GIF
verdicts.py     how many claims held; the Markdown table
page.py         one self-contained HTML page
html.py         templates filled with records, for the notebooks too
templates/      the page, its pieces, its style sheet
"""
