"""Make the two-image debug set from the photographs in scikit-learn's wheel: middle square, 128x128, JPEG.

    pip install scikit-learn && python tools/make_debug.py
"""
from pathlib import Path

import sklearn.datasets
from PIL import Image, ImageOps

OUT = Path(__file__).resolve().parents[1]/'ddpm_lesson'/'assets'/'debug'

for name in 'flower', 'china':
    image = Image.open(Path(sklearn.datasets.__file__).parent/'images'/f'{name}.jpg')
    ImageOps.fit(image, (128, 128), Image.Resampling.LANCZOS).save(OUT/f'{name}.jpg', quality=90)
