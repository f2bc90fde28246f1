"""Training: the loop, its callbacks and metrics, and what a run leaves behind."""

from .callbacks import Best, Callback, EarlyStopping, Schedule
from .metrics import Accuracy, ConfusionMatrix, Loss, Metric, TopK
from .notice import Preempted
from .progress import Progress
from .run import JsonLog, LearningCurve, SaveWeights
from .trainer import Trainer
from .weights import load_weights, save_weights

__all__ = [
    "Accuracy",
    "Best",
    "Callback",
    "ConfusionMatrix",
    "EarlyStopping",
    "JsonLog",
    "LearningCurve",
    "Loss",
    "Metric",
    "Preempted",
    "Progress",
    "SaveWeights",
    "Schedule",
    "TopK",
    "Trainer",
    "load_weights",
    "save_weights",
]
