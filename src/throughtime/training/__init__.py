"""Training language models on text: streams and windows, optimisers, checkpoints, sampling."""

from throughtime.gradient_flow import DivergedError
from throughtime.training.checkpoint import Checkpoint, Record, load_together, restarted
from throughtime.training.checkpoint import load as load_checkpoint
from throughtime.training.checkpoint import save as save_checkpoint
from throughtime.training.distributed import LostWorkerError, Processes
from throughtime.training.distributed import join as join_processes
from throughtime.training.ngrams import ngram_bits
from throughtime.training.optimisers import SGD, Adam, AdamW, Norms, Optimiser, clip
from throughtime.training.progress import Progress, describe_run, summarise_run, worse_than_guessing
from throughtime.training.sampling import sample
from throughtime.training.settings import CELLS, RunLimits, Settings
from throughtime.training.text import Streams, Text, Vocabulary, read, standard_library
from throughtime.training.trainer import Trainer, Update, bits_per_character

__all__ = [
    "CELLS",
    "SGD",
    "Adam",
    "AdamW",
    "Checkpoint",
    "DivergedError",
    "LostWorkerError",
    "Norms",
    "Optimiser",
    "Processes",
    "Progress",
    "Record",
    "RunLimits",
    "Settings",
    "Streams",
    "Text",
    "Trainer",
    "Update",
    "Vocabulary",
    "bits_per_character",
    "clip",
    "describe_run",
    "join_processes",
    "load_checkpoint",
    "load_together",
    "ngram_bits",
    "read",
    "restarted",
    "sample",
    "save_checkpoint",
    "standard_library",
    "summarise_run",
    "worse_than_guessing",
]
