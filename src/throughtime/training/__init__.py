"""Training language models on text: streams and windows, optimisers, checkpoints, sampling."""

from throughtime.gradient_flow import DivergedError
from throughtime.training.checkpoint import Checkpoint, Record
from throughtime.training.checkpoint import load as load_checkpoint
from throughtime.training.checkpoint import save as save_checkpoint
from throughtime.training.ngrams import ngram_bits
from throughtime.training.optimisers import SGD, Adam, AdamW, Norms, Optimiser, clip
from throughtime.training.progress import Progress
from throughtime.training.sampling import sample
from throughtime.training.settings import Plan, Settings
from throughtime.training.text import Streams, Text, Vocabulary, read, standard_library
from throughtime.training.trainer import Trainer, Update, bits_per_character

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Checkpoint",
    "DivergedError",
    "Norms",
    "Optimiser",
    "Plan",
    "Progress",
    "Record",
    "Settings",
    "Streams",
    "Text",
    "Trainer",
    "Update",
    "Vocabulary",
    "bits_per_character",
    "clip",
    "load_checkpoint",
    "ngram_bits",
    "read",
    "sample",
    "save_checkpoint",
    "standard_library",
]
