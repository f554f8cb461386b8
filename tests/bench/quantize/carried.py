"""Models that packages contain as ONNX files, with inputs.

`models(REAL)` yields the file and the inputs of each. Speech detectors of silero-vad get pieces of a synthetic voice.
The text detector and the text recognizer of RapidOCR get images of printed digits, which the recognizer reads.
"""

import numpy as np

# Rows of five pixels, top to bottom, for each digit.
DIGITS = [
    "01110 10001 10011 10101 11001 10001 01110",
    "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00010 00100 01000 11111",
    "11111 00010 00100 00010 00001 10001 01110",
    "00010 00110 01010 10010 11111 00010 00010",
    "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110",
    "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110",
    "01110 10001 10001 01111 00001 00010 01100",
]
ROWS = 8
PIECE = 576


def models(real):
    silero, ocr = real / "silero", real / "rapidocr"
    sound = pieces()
    state = {"state": np.zeros((2, ROWS, 128), np.float32), "sr": np.array(16_000, np.int64)}
    cell = np.zeros((1, 1, 128), np.float32)
    # Convolutions, and an LSTM within branches of `If`.
    yield silero / "silero_vad_16k_op15.onnx", {"input": sound, **state}
    # The LSTM is in the main graph.
    yield silero / "silero_vad_16k_sequence.onnx", {"input": sound, "h": cell, "c": cell}
    # Branches of `If` use weights of the main graph.
    yield silero / "silero_vad_op18_ifless.onnx", {"input": sound, **state}
    yield ocr / "PP-OCRv6_det_small.onnx", {"x": pages()}
    yield ocr / "PP-OCRv6_rec_small.onnx", {"x": lines()}


def branches(real):
    """File of a model whose weights are all in branches of `If`."""
    return real / "silero" / "silero_vad.onnx"


def pieces():
    """Pieces of 36 ms of a voice with eight overtones, some of them with noise."""
    random = np.random.default_rng(4)
    time = np.arange(ROWS * PIECE) / 16_000
    voice = sum(np.sin(2 * np.pi * 140 * tone * time) / tone for tone in range(1, 9))
    sound = (voice * np.sin(2 * np.pi * 5 * time) / 4).reshape(ROWS, PIECE)
    loudness = np.linspace(0, 0.1, ROWS)[:, None]
    return (sound + loudness * random.standard_normal(sound.shape)).astype(np.float32)


def printed(number, scale):
    """Image of a number, black on white, from 0 to 1."""
    glyphs = [DIGITS[int(digit)].split() for digit in str(number)]
    rows = ["0".join(glyph[row] for glyph in glyphs) for row in range(7)]
    dots = np.array([[pixel == "1" for pixel in row] for row in rows], np.float32)
    return 1 - np.kron(dots, np.ones((scale, scale), np.float32))


def on(canvas, image, top, left):
    height, width = image.shape
    canvas[top : top + height, left : left + width] = image


def normalized(images, mean, deviation):
    """Images with three equal channels, as RapidOCR normalizes them."""
    channels = np.repeat(np.stack(images)[:, None], 3, axis=1)
    shape = (1, 3, 1, 1)
    return (channels - np.reshape(mean, shape)).astype(np.float32) / np.reshape(deviation, shape).astype(np.float32)


def lines():
    """Lines of seven digits, 48 pixels high."""
    images = []
    for number in np.random.default_rng(5).integers(1_000_000, 10_000_000, ROWS):
        canvas = np.ones((48, 320), np.float32)
        on(canvas, printed(number, 5), 6, 20)
        images.append(canvas)
    return normalized(images, [0.5] * 3, [0.5] * 3)


def pages():
    """Pages with three numbers."""
    random = np.random.default_rng(6)
    images = []
    for _ in range(ROWS):
        canvas = np.ones((256, 320), np.float32)
        for top in (20, 100, 180):
            on(canvas, printed(random.integers(1_000, 1_000_000), 4), top + random.integers(30), random.integers(10, 100))
        images.append(canvas)
    return normalized(images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
