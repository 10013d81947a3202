"""Good calls of `adversarial`."""

from funcreg import adversarial
from tests.bad_arguments.call import KEY, SOFT, Call, X, call


def loss_fn(x):
    return (x**2).sum()


CALLS: list[Call] = [
    call("adversarial.fgsm", adversarial.fgsm, loss_fn=loss_fn, x=SOFT, epsilon=0.1, low=0.0, high=1.0,
         targeted=False),
    call("adversarial.pgd", adversarial.pgd, loss_fn=loss_fn, x=SOFT, epsilon=0.1, key=KEY, steps=2, step_size=0.05,
         norm="l2", low=0.0, high=1.0, targeted=False),
    call("adversarial.vat", adversarial.vat, function=lambda x: x**2, x=X, epsilon=0.1, key=KEY, steps=2,
         reduction="mean"),
]  # fmt: skip
