"""Draw what is no seizure and looks like one to a threshold: artefacts, and rhythms of healthy brains.

Each kind comes in bursts at times of its own, during seizures too. Muscle, chewing, movement and pops are stronger than
seizures; mu, spindles and slow waves of drowsiness are as rhythmic, yet steady or brief. Axes as in `eeg`; L = samples
of a burst. All is in microvolts.
"""
# capitals in names are axes

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tusz_cache.synth.eeg import CHANNELS, PLACES_C2, SAMPLE_RATE, FloatArray

__all__ = ["KINDS", "Artefact", "add_artefacts"]


@dataclass(frozen=True, slots=True)
class Artefact:
    """One kind."""

    per_minute: float
    seconds: tuple[float, float]
    draw: Callable[[np.random.Generator, int], FloatArray]  # (rng, L) -> (C, L)


def add_artefacts(rng: np.random.Generator, x_CT: FloatArray) -> None:
    """Add bursts of every kind to x_CT in place; how many differs from recording to recording."""
    n_samples = x_CT.shape[1]
    for kind in KINDS:
        expected = kind.per_minute * n_samples / SAMPLE_RATE / 60 * rng.gamma(2.0, 0.5)
        for _ in range(rng.poisson(expected)):
            length = int(min(rng.uniform(*kind.seconds) * SAMPLE_RATE, n_samples))
            start = int(rng.integers(n_samples - length + 1))
            x_CT[:, start : start + length] += kind.draw(rng, length)


def _around(rng: np.random.Generator, *sites: str, reach: float = 0.5) -> FloatArray:
    """Draw one of the sites, or any channel, and return how strong it is elsewhere, (C, 1)."""
    site = CHANNELS.index(rng.choice(sites)) if sites else int(rng.integers(len(CHANNELS)))
    falloff_C1: FloatArray = np.exp(-np.linalg.norm(PLACES_C2 - PLACES_C2[site], axis=1) / reach)[:, None]
    return falloff_C1


def _hump(length: int) -> FloatArray:
    """Return a rise and fall (L,)."""
    hump_L: FloatArray = np.sin(np.pi * (np.arange(length) + 0.5) / length)
    return hump_L


def _emg(rng: np.random.Generator, length: int) -> FloatArray:
    """Draw the activity of muscles (C, L): noise without low frequencies, RMS 1, each electrode its own."""
    emg_CL: FloatArray = np.diff(rng.normal(0.0, np.sqrt(0.5), (len(CHANNELS), length + 1)))
    return emg_CL


def _muscle(rng: np.random.Generator, length: int) -> FloatArray:
    burst_CL: FloatArray = _around(rng, "T3", "T4", "F7", "F8", "Fp1", "Fp2") * rng.uniform(30.0, 150.0)
    return burst_CL * _hump(length) ** 0.5 * _emg(rng, length)


def _chewing(rng: np.random.Generator, length: int) -> FloatArray:
    """Muscle that comes and goes 1 to 2 times a second, and the tongue's slow wave with it."""
    stroke_L = np.sin(2 * np.pi * (rng.uniform(1.0, 2.0) * np.arange(length) / SAMPLE_RATE + rng.random()))
    muscle_CL = _around(rng, "T3", "T4", reach=0.8) * rng.uniform(40.0, 120.0) * stroke_L.clip(0) * _emg(rng, length)
    tongue_CL = _around(rng, "Fz", "Cz", reach=1.0) * rng.uniform(20.0, 80.0) * stroke_L
    chewing_CL: FloatArray = _hump(length) ** 0.5 * (muscle_CL + tongue_CL)
    return chewing_CL


def _movement(rng: np.random.Generator, length: int) -> FloatArray:
    """Slow waves of hundreds of microvolts, at some electrodes."""
    f_F = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    sway_CL: FloatArray = np.fft.irfft(
        np.fft.rfft(rng.normal(size=(len(CHANNELS), length))) * np.exp(-f_F / 0.8), length
    )
    sway_CL *= _hump(length) * (rng.random((len(CHANNELS), 1)) < 0.5)
    movement_CL: FloatArray = rng.uniform(50.0, 300.0) * sway_CL / (sway_CL.std() + 1e-9)
    return movement_CL


def _pops(rng: np.random.Generator, length: int) -> FloatArray:
    """An electrode of poor contact: jumps that decay, one to three a second."""
    pops_CL = np.zeros((len(CHANNELS), length))
    channel = rng.integers(len(CHANNELS))
    for start in rng.integers(length, size=1 + rng.poisson(length / SAMPLE_RATE)):
        decay = np.exp(-np.arange(length - start) / (rng.uniform(0.05, 0.2) * SAMPLE_RATE))
        pops_CL[channel, start:] += rng.choice([-1.0, 1.0]) * rng.uniform(100.0, 600.0) * decay
    return pops_CL * _hump(length) ** 0.5


def _blinks(rng: np.random.Generator, length: int) -> FloatArray:
    """Blinks, alone or as flutter: at the forehead, less so behind."""
    t_L = np.arange(length) / SAMPLE_RATE
    every_s = rng.uniform(0.35, 2.0)
    moments = np.arange(rng.uniform(0.2, 0.5), max(0.6, t_L[-1] - 0.2), every_s)
    moments += rng.normal(0.0, 0.05 * every_s, moments.size)
    lids_L = np.exp(-0.5 * ((t_L - moments[:, None]) / 0.08) ** 2).sum(axis=0)
    blinks_CL: FloatArray = _around(rng, "Fp1", "Fp2", reach=0.6) * rng.uniform(60.0, 200.0) * lids_L
    return blinks_CL


def _mains(rng: np.random.Generator, length: int) -> FloatArray:
    """60 Hz at some electrodes."""
    loose_C1: FloatArray = np.where(rng.random((len(CHANNELS), 1)) < 0.3, rng.uniform(5.0, 40.0), 0.0)
    mains_CL: FloatArray = loose_C1 * np.sin(2 * np.pi * (60.0 * np.arange(length) / SAMPLE_RATE + rng.random()))
    return mains_CL


def _rhythm(low_hz: float, high_hz: float, *sites: str) -> Callable[[np.random.Generator, int], FloatArray]:
    """Return what draws a steady rhythm of a frequency between the two that waxes and wanes at one of the sites."""

    def draw(rng: np.random.Generator, length: int) -> FloatArray:
        phase_L = rng.uniform(low_hz, high_hz) * np.arange(length) / SAMPLE_RATE + rng.random()
        strength_C1 = _around(rng, *sites) * rng.uniform(20.0, 70.0)
        rhythm_L: FloatArray = _hump(length) * np.sin(2 * np.pi * phase_L)
        return strength_C1 * rhythm_L

    return draw


KINDS = (
    Artefact(1.0, (0.5, 12.0), _muscle),
    Artefact(0.3, (5.0, 20.0), _chewing),
    Artefact(0.4, (2.0, 8.0), _movement),
    Artefact(0.4, (0.5, 6.0), _pops),
    Artefact(1.5, (1.0, 8.0), _blinks),
    Artefact(0.2, (20.0, 60.0), _mains),
    Artefact(0.6, (2.0, 10.0), _rhythm(8.5, 11.5, "C3", "C4")),  # mu
    Artefact(1.0, (0.6, 2.0), _rhythm(11.0, 15.0, "Fz", "Cz")),  # spindles
    Artefact(0.5, (2.0, 6.0), _rhythm(4.0, 7.0, "Fz", "Cz", "T3", "T4")),  # drowsiness
    Artefact(0.3, (2.0, 5.0), _rhythm(1.5, 3.0, "Fp1", "Fp2", "O1", "O2")),  # slow waves
)
