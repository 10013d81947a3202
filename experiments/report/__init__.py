"""What is said of numbers.

result.py       Claim, Table, Result: what an experiment returns
decisions.py    confirmed, refuted, undecided
looks.py        more members while something is undecided, and what that asks of an interval
estimates.py    mean, sd and confidence interval over members; curves
claims.py       that one thing is larger than another, member by member
plots.py        canvas and palette; PNG and GIF
charts.py       rows of panels in one call: curves with bands, strips of dots
verdicts.py     how many claims came out which way; the Markdown table
page.py         one self-contained HTML page
reference.py    the library's reference, by pdoc
html.py         templates filled with records, for the notebooks too
templates/      the page, its pieces, its style sheet
"""
