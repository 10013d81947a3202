"""What several questions share.

networks.py     MLPs and ResNet-9
classifiers.py  loss and scores of classifiers, members trained in one fit
arms.py         arms x seeds as the members of one fit
toy_tasks.py    the two toy classification tasks
losses.py       the spectral loss of signals
photos.py       CIFAR-10 standardised, sized and parted
trials.py       training runs as trials of a search
"""
