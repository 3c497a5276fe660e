"""Pictures to shrink: drawn here, so that the demo brings no files and downloads none."""

import colorsys
import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

SIZE = (1600, 1200)


def paint(path: Path, seed: int) -> None:
    """Write one JPEG: soft discs in shades of one colour, different for each seed."""
    dice = random.Random(seed)
    hue = dice.random()
    picture = Image.new("RGB", SIZE, _shade(hue, 0.95))
    draw = ImageDraw.Draw(picture)
    for _ in range(40):
        x, y, radius = dice.randrange(SIZE[0]), dice.randrange(SIZE[1]), dice.randrange(40, 300)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_shade(hue, dice.uniform(0.2, 0.9)))
    picture.filter(ImageFilter.GaussianBlur(3)).save(path, quality=90)


def paint_gallery(folder: Path, count: int, originals: int) -> list[Path]:
    """Make `count` pictures, of which `originals` are painted and the others are copies under names of their own."""
    painted = [folder / f"original-{number}.jpg" for number in range(originals)]
    for seed, path in enumerate(painted):
        paint(path, seed)
    gallery = [folder / f"picture-{number}.jpg" for number in range(count)]
    for number, path in enumerate(gallery):
        path.hardlink_to(painted[number % originals])
    return gallery


def _shade(hue: float, lightness: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.6)
    return int(red * 255), int(green * 255), int(blue * 255)
