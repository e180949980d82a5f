"""A synthetic cache of TUSZ shape, for demo, tests and benches; the corpus itself may not be redistributed."""

from tusz_cache.synth.plan import SIZES, Kind, PlannedRecording, SynthConfig, plan_recordings
from tusz_cache.synth.writing import SynthReport, cut_windows, draw_recording, write_cache, write_npz

__all__ = [
    "SIZES",
    "Kind",
    "PlannedRecording",
    "SynthConfig",
    "SynthReport",
    "cut_windows",
    "draw_recording",
    "plan_recordings",
    "write_cache",
    "write_npz",
]
