"""What every framework's contenders agree on: the sizes of the workloads, and the settings of the steps."""

TOY = (2, 32, 32, 2)
TOY_BATCH = 140
TOY_MEMBERS = 64
MLP = (784, 512, 512, 10)
MLP_BATCH = 128
MLP_MEMBERS = 32
MIDDLE = (784, 128, 10)
MIDDLE_MEMBERS = 36
NARROW = (784, 64, 10)
NARROW_MEMBERS = 200
SAMPLES = 100
DROPOUT = (128, 1024)
DISCRIMINATOR = (2, 128, 128, 128, 2)
DISCRIMINATOR_BATCH = 256
CHANNELS = (3, 16, 32, 64)
CLASSES = 10
NETWORKS = 8
NETWORKS_BATCH = 64
IMAGE = (3, 32, 32)
RADIUS = 0.05  # of sharpness-aware minimisation

RATE = 0.5
SETTINGS = {"rate": RATE, "decay": 1e-4, "lr": 1e-3}
SWEPT = {"rate": (0.1, 0.6), "decay": (0.0, 0.02), "lr": (1e-3, 1e-2)}  # members' own, evenly spaced
RESTART = 64  # steps after which training begins anew, before Adam's averages of dead units are denormal, and slow
