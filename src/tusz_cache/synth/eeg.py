"""Draw synthetic scalp EEG: background, seizures, electrodes that come off, and the z-score of the users' tool.

Axes: C = 19 channels, T = samples of a recording at 256 Hz, L = samples of a seizure, F = frequency bins. All is in
microvolts until `standardise`. Each function draws from the generator it is given, and from nothing else.

Why the signal deflates to about 0.8 of its size: the mantissas of filtered EEG are noise, so float32 noise alone stays
at 0.93 (deflate looks back 32 KiB; the 6-fold overlap of windows is farther away); with labels, which vanish, a file
has 0.88; and where an electrode is off the signal is constant. The users' totals imply 0.79 to 0.82, or 0.84 to 0.88 if
their GB are GiB. ADC steps are left out on purpose: the users' band-pass runs in float64 behind the converter, so real
files have none. (Kept to the end, steps of 0.1 uV deflate to 0.47; 0.8 would need steps finer than any converter's.)
"""
# capitals in names are axes

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = [
    "CHANNELS",
    "COVERS_WINDOW_S",
    "PLACES_C2",
    "SAMPLE_RATE",
    "FloatArray",
    "draw_background",
    "draw_discharge",
    "draw_seizure_times",
    "standardise",
    "take_electrodes_off",
]

FloatArray = npt.NDArray[np.float64]

SAMPLE_RATE = 256  # Hz
CLIP = 10.0  # sigma, the users' constant
COVERS_WINDOW_S = 72.0  # room for a window of 60 s behind an onset of up to 9 s and a stride of 10 s
# In the order of the users' cache: left, midline, right.
CHANNELS = (
    *("Fp1", "F3", "C3", "P3", "F7", "T3", "T5", "O1"),
    *("Fz", "Cz", "Pz"),
    *("Fp2", "F4", "C4", "P4", "F8", "T4", "T6", "O2"),
)
# The 10-20 system seen from above: x to the right, y to the front, the ears at radius 1.
_LEFT = ((-0.3, 0.9), (-0.4, 0.5), (-0.5, 0.0), (-0.4, -0.5), (-0.8, 0.6), (-1.0, 0.0), (-0.8, -0.6), (-0.3, -0.9))
PLACES_C2 = np.array([*_LEFT, (0.0, 0.5), (0.0, 0.0), (0.0, -0.5), *((-x, y) for x, y in _LEFT)])


def draw_background(rng: np.random.Generator, n_samples: int) -> FloatArray:
    """Draw (C, T) in uV: pink noise of 20 uV RMS, 30 % of its power common to all channels, and posterior alpha.

    Power-law noise as the inverse FFT of a shaped complex Gaussian spectrum (Timmer & Koenig 1995, Astronomy and
    Astrophysics 300, 707). The band is the users': 0.5 to 120 Hz, Butterworth, order 3. Alpha, 15 uV RMS at O1 and O2,
    is a narrow band of the same noise, so that it waxes and wanes.
    """
    n = -(-n_samples // 2560) * 2560  # small prime factors: the FFT is fast for any length
    f_F = np.fft.rfftfreq(n, 1 / SAMPLE_RATE)[1:]  # without 0 Hz
    pink_F = _unit_rms(f_F**-0.5 / np.sqrt((1 + (0.5 / f_F) ** 6) * (1 + (f_F / 120) ** 6)), n)
    alpha_F = _unit_rms(np.exp(-0.5 * ((f_F - rng.normal(10.0, 0.7)) / 0.5) ** 2), n)
    white = rng.normal(0.0, np.sqrt(0.5), (len(CHANNELS) + 2, f_F.size, 2)).view(np.complex128)[..., 0]
    own_CF, common_F, rhythm_F = white[:-2], white[-2], white[-1]
    posterior_C = 1 / (1 + np.exp(8 * (PLACES_C2[:, 1] + 0.4)))  # near 1 at O1 and O2, 0 in front
    spectrum_CF = 20.0 * pink_F * (np.sqrt(0.7) * own_CF + np.sqrt(0.3) * common_F)
    spectrum_CF += 15.0 * posterior_C[:, None] * (alpha_F * rhythm_F)
    x_CT: FloatArray = np.fft.irfft(np.pad(spectrum_CF, ((0, 0), (1, 0))), n)[:, :n_samples]
    return x_CT


def draw_seizure_times(
    rng: np.random.Generator, n_samples: int, *, long_first: bool, median_s: float = 40.0, sigma: float = 1.0
) -> Iterator[tuple[int, int]]:
    """Yield onset and offset (excluded) in samples, in order and apart, at most one seizure in 240 s.

    Durations are log-normal. As by default, with median 40 s, their mean is 66 s; in TUSZ v2.0.3 train it is 72 s
    (175,125 s in 2,421 seizures, AAREADME). With `long_first` the first covers a whole window if `n_samples` span
    COVERS_WINDOW_S; like a seizure at the end of a real file it may be cut off there.
    """
    n_slots = int(rng.integers(1, max(1, n_samples // (240 * SAMPLE_RATE)) + 1))
    slot_s = n_samples / n_slots / SAMPLE_RATE
    for i in range(n_slots):
        if long_first and i == 0:
            onset_s, duration_s = rng.uniform(3.0, 9.0), rng.uniform(75.0, 120.0)
        else:
            duration_s = min(max(5.0, rng.lognormal(np.log(median_s), sigma)), 0.8 * slot_s)
            onset_s = rng.uniform(0.0, 0.95 * slot_s - duration_s)
        onset_s, offset_s = i * slot_s + onset_s, i * slot_s + min(onset_s + duration_s, slot_s)
        yield int(onset_s * SAMPLE_RATE), int(offset_s * SAMPLE_RATE)


def draw_discharge(rng: np.random.Generator, n_samples: int) -> FloatArray:
    """Draw a rhythmic discharge (C, L) in uV that evolves, as seizures do, in frequency, amplitude and place.

    It glides from 6-8 Hz to 2.5-3.5 Hz, grows to 60-150 uV at the focus and fades, and reaches far channels late and
    weak. Peaks are 3 to 7 times the background's RMS, both ends lie below it: to be learnt, but not by a threshold.
    """
    u_L = (np.arange(n_samples) + 0.5) / n_samples
    first_hz, last_hz = rng.uniform(6.0, 8.0), rng.uniform(2.5, 3.5)
    phase_L = 2 * np.pi * np.cumsum(first_hz * (last_hz / first_hz) ** u_L) / SAMPLE_RATE
    wave_L = np.sin(phase_L) + 0.5 * np.sin(2 * phase_L) + 0.25 * np.sin(3 * phase_L)  # harmonics sharpen it
    envelope_L = rng.uniform(60.0, 150.0) * np.sin(np.pi * u_L**0.7)
    distance_C = np.linalg.norm(PLACES_C2 - PLACES_C2[rng.integers(len(CHANNELS))], axis=1)
    joined_CL = 1 / (1 + np.exp((0.3 * distance_C[:, None] - u_L) / 0.05))  # the far ear joins at 0.6 of the duration
    discharge_CL: FloatArray = np.exp(-distance_C)[:, None] * joined_CL * (envelope_L * wave_L)
    return discharge_CL


def take_electrodes_off(rng: np.random.Generator, x_CT: FloatArray, flat_share: float) -> None:
    """Silence one span of each channel of x_CT in place, `flat_share` of its time on average.

    Behind the high-pass an open channel is 0 uV. Where it comes back it pops: 500 uV that die within half a second.
    """
    n_samples = x_CT.shape[1]
    spread = min(flat_share, 1 - flat_share)
    for x_T in x_CT:
        length = int(rng.uniform(flat_share - spread, flat_share + spread) * n_samples)
        start = int(rng.integers(n_samples - length + 1))
        if length:
            x_T[start : start + length] = 0.0
            rest_T = x_T[start + length :]
            rest_T += rng.choice([-500.0, 500.0]) * np.exp(-np.arange(rest_T.size) / (0.15 * SAMPLE_RATE))


def standardise(x_CT: FloatArray, step: float = 0.0) -> npt.NDArray[np.float32]:
    """Return x_CT as z-scores per channel over the whole recording, clipped to +-10 sigma, float32.

    The formula, epsilon included, is `preprocess_recording` of brain-go-brr-v2 @7504b39. What is rounded to whole steps
    (in sigma, 0 for none) deflates better than what is real.
    """
    z_CT = (x_CT - x_CT.mean(axis=1, keepdims=True)) / (x_CT.std(axis=1, keepdims=True) + 1e-8)
    clipped_CT = np.clip(z_CT, -CLIP, CLIP)
    rounded_CT: npt.NDArray[np.float32] = (np.round(clipped_CT / step) * step if step else clipped_CT).astype(
        np.float32
    )
    return rounded_CT


def _unit_rms(shape_F: FloatArray, n: int) -> FloatArray:
    """Scale an amplitude spectrum so that unit complex noise times it has RMS 1 after `irfft` to n samples."""
    scaled_F: FloatArray = shape_F * (n / np.sqrt(2 * np.sum(shape_F**2)))
    return scaled_F
