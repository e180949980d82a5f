"""Draw what differs between patients: how strong their EEG is, and what their seizures look like.

A patient's seizures resemble each other, and two patients' do not: place, frequencies, sharpness of the waves and
strength are drawn once for a patient, and vary a little between seizures. What all have in common, and what is to be
learnt, is a rhythm that slows down while it spreads. Axes as in `eeg`; W = samples of one wave.
"""
# capitals in names are axes

from dataclasses import dataclass

import numpy as np

from tusz_cache.synth.eeg import CHANNELS, PLACES_C2, SAMPLE_RATE, FloatArray

__all__ = ["Patient", "draw_discharge", "draw_gain", "draw_patient", "draw_wander"]

_BACKGROUND_UV = 20.0  # RMS of `eeg.draw_background`
_WAVE = 256  # samples of the table of one wave


@dataclass(frozen=True, slots=True)
class Patient:
    """What stays the same in all recordings of a patient."""

    gain: float  # of the background: 1 is 20 uV RMS
    focus: int  # the channel where seizures begin
    spread: float  # how far they reach: distance at which they have 1/e of their strength, in radii of the head
    delay: float  # share of the duration after which they have gone one radius
    first_hz: float
    last_hz: float
    strength: float  # RMS of a seizure at its height at the focus, in that of the background
    wave_W: FloatArray  # one period, of mean 0 and RMS 1


def draw_patient(rng: np.random.Generator) -> Patient:
    """Draw a patient. One in three has spike-and-wave seizures from 3-4.5 Hz that reach far, others focal ones."""
    spiking = rng.random() < 0.33
    phase_W = 2 * np.pi * np.arange(_WAVE) / _WAVE
    wave_W = np.sin(phase_W)
    for harmonic in (2, 3):
        wave_W += rng.uniform(0.1, 0.9) / harmonic * np.sin(harmonic * phase_W + rng.uniform(0, 2 * np.pi))
    if spiking:
        wave_W += rng.uniform(2.0, 4.0) * np.exp(40 * (np.cos(phase_W - rng.uniform(0, 2 * np.pi)) - 1))
    wave_W -= wave_W.mean()
    first_hz = rng.uniform(3.5, 5.0) if spiking else rng.uniform(5.0, 9.0)
    return Patient(
        gain=rng.lognormal(0.0, 0.35),
        focus=int(rng.integers(len(CHANNELS))),
        spread=rng.uniform(1.0, 2.5) if spiking else rng.uniform(0.4, 1.0),
        delay=0.02 if spiking else rng.uniform(0.1, 0.4),
        first_hz=first_hz,
        last_hz=first_hz * rng.uniform(0.4, 0.6),
        strength=rng.uniform(1.0, 2.5),
        wave_W=wave_W / wave_W.std(),
    )


def draw_wander(rng: np.random.Generator, n_samples: int, sigma: float, seconds: float) -> FloatArray:
    """Draw a positive factor (T,) around 1 that wanders: log-normal, with a new value every so many seconds."""
    knots = np.arange(0, n_samples + 2 * seconds * SAMPLE_RATE, seconds * SAMPLE_RATE)
    wander_T: FloatArray = np.exp(np.interp(np.arange(n_samples), knots, rng.normal(0.0, sigma, knots.size)))
    return wander_T


def draw_gain(rng: np.random.Generator, patient: Patient, n_samples: int) -> FloatArray:
    """Draw the factor (C, T) of a patient's background: each electrode has its own, and all wander together."""
    electrode_C1 = rng.lognormal(0.0, 0.2, (len(CHANNELS), 1))
    gain_CT: FloatArray = patient.gain * electrode_C1 * draw_wander(rng, n_samples, 0.35, 8.0)
    return gain_CT


def draw_discharge(rng: np.random.Generator, patient: Patient, n_samples: int) -> FloatArray:
    """Draw one of the patient's seizures, (C, L) in uV. It slows down, waxes and wanes, and ends within a second."""
    u_L = (np.arange(n_samples) + 0.5) / n_samples
    hz_L = patient.first_hz * (patient.last_hz / patient.first_hz) ** u_L * rng.lognormal(0.0, 0.08)
    hz_L *= draw_wander(rng, n_samples, 0.06, 1.0)
    place_L = np.cumsum(hz_L) / SAMPLE_RATE % 1 * _WAVE
    wave_L = np.interp(place_L, np.arange(_WAVE + 1), np.append(patient.wave_W, patient.wave_W[0]))
    ends_L = np.minimum(1.0, np.minimum(u_L / 0.15, (n_samples - np.arange(n_samples)) / SAMPLE_RATE))
    strength = patient.strength * patient.gain * _BACKGROUND_UV * rng.lognormal(0.0, 0.2)
    envelope_L = strength * ends_L * draw_wander(rng, n_samples, 0.25, 3.0)
    distance_C1 = np.linalg.norm(PLACES_C2 - PLACES_C2[patient.focus], axis=1)[:, None]
    joined_CL = 1 / (1 + np.exp((patient.delay * distance_C1 - u_L) / 0.02))
    discharge_CL: FloatArray = np.exp(-distance_C1 / patient.spread) * joined_CL * (envelope_L * wave_L)
    return discharge_CL
