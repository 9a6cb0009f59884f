"Names of data sets, folders of pictures, and every file that is written: one door in, one door out."
import errno
import io
import math
import os
import stat
import struct
import sys
import threading
import types
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ddpm_lesson.data import Images, bundled_fashion, load_images, to_unit
from ddpm_lesson.engine import sources
from ddpm_lesson.engine.files import (
    atomic_write,
    full_path,
    load_tensors,
    open_regular,
    read_table,
    save_gif,
    save_png,
    save_tensors,
    sheet,
    sweep,
    write_table,
)
from ddpm_lesson.engine.run import Run, fit, make_card, resume
from ddpm_lesson.engine.sources import Unreadable, find_source, image_files, known_set, read_image
from ddpm_lesson.plot import show_rows, to_show
from ddpm_lesson.train import Recipe

ROOT = Path(__file__).resolve().parents[1]
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8))


def put(path, picture=PICTURE):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return path


def bytes_of(picture, kind, **how):
    picture.save(buffer := io.BytesIO(), kind, **how)
    return buffer.getvalue()


# ---- one door for names

def test_a_name_is_one_source_wherever_it_is_said(tmp_path, monkeypatch):
    "Rejects a program that keeps the name: after a change of folder it reads another folder, or none."
    put(tmp_path/'home'/'photos'/'a.png'), put(tmp_path/'photos'/'a.png')
    (tmp_path/'link').symlink_to(tmp_path/'photos')
    monkeypatch.setenv('HOME', str(tmp_path/'home')); monkeypatch.setenv('USERPROFILE', str(tmp_path/'home'))
    monkeypatch.chdir(tmp_path)
    one = [find_source(name) for name in ('photos', './photos', 'photos/', Path('photos'), str(tmp_path/'photos'), tmp_path/'photos', 'link', tmp_path/'link', '../' + tmp_path.name + '/photos')]
    assert len(set(one)) == 1 and one[0].name == 'photos' and one[0] != find_source('~/photos') == find_source(Path('~/photos'))
    assert find_source(one[0]) is one[0]
    monkeypatch.chdir('/')
    assert len(load_images(one[0], 8)) == 1


@pytest.mark.parametrize('name', ['fashion', 'Fashion', 'FASHION_', 'mnist', 'CIFAR-10', 'debug', 'oxford-iiit-pet'])
def test_a_folder_called_like_a_set_is_never_taken_for_it(name, tmp_path, monkeypatch):
    "Rejects a lookup by two rules, and a label by which a card would later be judged against another set."
    put(tmp_path/name/'a.png')
    monkeypatch.chdir(tmp_path)
    folder = find_source(f'./{name}')
    assert folder == find_source(tmp_path/name) == find_source(f'{name}/') and folder.kind == 'folder' and load_images(folder, 8).pixels.shape == (1, 3, 8, 8)
    assert known_set(folder.name) is None and folder.name == f'./{name}' == load_images(folder, 8).name
    with pytest.warns(UserWarning, match=f'the folder that is here too is ./{name}'): assert find_source(name) == known_set(name) != folder
    assert find_source(Path(name)) == folder


@settings(max_examples=200, deadline=None)
@given(name=st.text(max_size=30))
def test_a_strangers_word_is_looked_up_without_touching_the_disk(name):
    before = os.stat
    def never(*args, **how): raise AssertionError('looked at the disk')
    os.stat = never
    try: source = known_set(name)
    finally: os.stat = before
    assert source is None or source.kind != 'folder' or source.name == 'debug'


def test_a_label_is_no_path_and_can_be_shown(tmp_path):
    for name in 'photos', '\x1b[2J', 'two\nlines', 'ä', 'fashion':
        label = find_source(put(tmp_path/name/'a.png').parent).name
        assert label.isprintable() and str(tmp_path) not in label


def test_what_is_no_name_says_what_to_do():
    for wrong in fake_set(), bundled_fashion(), bundled_fashion().pixels, np.zeros((2, 1, 4, 4)), None, 3, b'fashion', ['fashion']:
        with pytest.raises(TypeError, match='a name or a folder.*Images'): load_images(wrong)
    with pytest.raises(ValueError, match='channels wanted 1 or 3, got 2'): load_images('fashion', channels=2)


def fake_set():
    class Stranger(torch.utils.data.Dataset):
        def __len__(self): return 1
    return Stranger()


def test_home_is_filled_in_at_every_door(tmp_path, monkeypatch):
    "Rejects a writer that makes a folder called ~."
    monkeypatch.setenv('HOME', str(tmp_path/'home')); monkeypatch.setenv('USERPROFILE', str(tmp_path/'home'))
    (tmp_path/'cwd').mkdir()
    monkeypatch.chdir(tmp_path/'cwd')
    pixels = sheet(torch.zeros(2, 1, 4, 4))
    save_png('~/a.png', pixels), save_gif('~/b.gif', [pixels]), save_tensors('~/c.safetensors', {'w': torch.ones(2)}, {}), write_table([dict(a=1)], '~/d.csv')
    with atomic_write('~/sub/e.txt') as p: p.write_text('e')
    assert sorted(p.name for p in (tmp_path/'home').rglob('*') if p.is_file()) == ['a.png', 'b.gif', 'c.safetensors', 'd.csv', 'e.txt']
    assert not list((tmp_path/'cwd').iterdir())
    assert load_tensors('~/c.safetensors')[0]['w'].tolist() == [1, 1] and read_table('~/d.csv') == [dict(a=1)]
    for door in full_path, find_source, image_files, load_tensors, lambda p: save_png(p, pixels):
        with pytest.raises(ValueError, match='home folder that is there'): door('~no such user/x')


def test_a_training_writes_where_it_was_told_wherever_the_process_goes(tmp_path, monkeypatch):
    "Rejects a folder looked up at each checkpoint: after a change of folder the second lies elsewhere."
    monkeypatch.setenv('HOME', str(tmp_path/'home')); monkeypatch.setenv('USERPROFILE', str(tmp_path/'home'))
    for place in 'cwd', 'elsewhere': (tmp_path/place).mkdir()
    images = Images(bundled_fashion().pixels[:8, :, ::4, ::4].contiguous(), name='small')
    card = make_card(dict(channels=1, width=8, mults=[1], patch=1, blocks=1, attend=[]), Recipe(steps=3, batch=4, warmup=1, precision='float32'), size=7)
    for said, where in ('runs/a', tmp_path/'cwd'/'runs'/'a'), ('~/b', tmp_path/'home'/'b'):
        monkeypatch.chdir(tmp_path/'cwd')
        fit(Run(card, images), said, every=1, report=lambda run: os.chdir(tmp_path/'elsewhere'), progress=False)
        monkeypatch.chdir(tmp_path/'cwd')
        assert {'checkpoint.safetensors', 'checkpoint.previous.safetensors'} <= {p.name for p in where.iterdir()}
        assert len(resume(Run(card, images), said).losses) == 3
    assert not list((tmp_path/'elsewhere').iterdir()) and [p.name for p in (tmp_path/'cwd').iterdir()] == ['runs']


# ---- folders that come divided

def tree(root, *names):
    for k, name in enumerate(names): put(root/name, Image.new('RGB', (8, 8), (k*9 % 256, 0, 0)))
    return root


LAYOUTS = {
    'splits outside': ('train/cat/1.png', 'train/dog/2.png', 'test/cat/3.png', 'test/dog/4.png'),
    'splits inside': ('cat/train/1.png', 'dog/train/2.png', 'cat/test/3.png', 'dog/test/4.png'),
    'capitals': ('Train/cat/1.png', 'Train/dog/2.png', 'TEST/cat/3.png', 'TEST/dog/4.png'),
    'wrapped': ('set/images/train/cat/1.png', 'set/images/train/dog/2.png', 'set/images/test/cat/3.png', 'set/images/test/dog/4.png'),
    'deeper': ('train/cat/wild/1.png', 'train/dog/tame/2.png', 'test/cat/3.png', 'test/dog/old/4.png'),
    **{f'{word} for test': ('train/cat/1.png', 'train/dog/2.png', f'{word}/cat/3.png', f'{word}/dog/4.png') for word in ('val', 'valid', 'validation', 'testing')},
    'test wins over val': ('train/cat/1.png', 'train/dog/2.png', 'test/cat/3.png', 'test/dog/4.png', 'val/cat/5.png', 'val/dog/6.png'),
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_train_and_test_folders_are_no_classes(layout, tmp_path):
    "Rejects the rule that takes the first level for the classes: they would be called test and train, and the test images be learned."
    source = find_source(tree(tmp_path, *LAYOUTS[layout]))
    seen = {train: load_images(source, 8, train=train) for train in (True, False)}
    assert source.has_test and all(images.classes == ('cat', 'dog') and images.labels.tolist() == [0, 1] for images in seen.values())
    assert [sorted(images.pixels[:, 0, 0, 0].tolist()) for images in seen.values()] == [[0, 9], [18, 27]]


def test_a_class_keeps_its_number_where_a_part_lacks_others(tmp_path):
    "Rejects a program that numbers the classes of each part by itself: dog would be 0 in the test."
    tree(tmp_path, 'train/cat/1.png', 'train/dog/2.png', 'train/eel/3.png', 'test/dog/4.png', 'test/fox/5.png')
    train, test = load_images(tmp_path, 8), load_images(tmp_path, 8, train=False)
    assert train.classes == test.classes == ('cat', 'dog', 'eel', 'fox') and train.labels.tolist() == [0, 1, 2] and test.labels.tolist() == [1, 3]


@pytest.mark.parametrize('names', [('train/1.png', 'test/2.png', '3.png'), ('train/1.png', 'test/2.png', 'extra/3.png'), ('train/cat/1.png', 'val/cat/2.png', 'cat/3.png'), ('a/train/1.png', 'a/test/2.png', 'b/c/train/3.png')])
def test_parts_beside_other_things_are_refused_in_words(names, tmp_path):
    for train in True, False:
        with pytest.raises(ValueError, match='side by side: name one of them'): load_images(tree(tmp_path, *names), 8, train=train)


def test_what_a_plain_folder_has(tmp_path):
    assert load_images(tree(tmp_path/'trains', 'car/1.png', 'plane/2.png', 'train/3.png'), 8).classes == ('car', 'plane', 'train')  # a train is a train
    plain = find_source(tree(tmp_path/'plain', 'cat/1.png', 'dog/2.png'))
    assert not plain.has_test and load_images(plain, 8).classes == ('cat', 'dog')
    with pytest.raises(ValueError, match='wanted folders called train and test'): load_images(plain, 8, train=False)  # not the same images once more
    with pytest.raises(ValueError, match='wanted folders called train and test'): load_images('debug', 8, train=False)
    only = tree(tmp_path/'only', 'test/cat/1.png', 'test/dog/2.png')
    with pytest.raises(ValueError, match='wanted a folder called train'): load_images(only, 8)
    assert len(load_images(only, 8, train=False)) == 2
    with pytest.warns(UserWarning, match='1 images lie beside the class folders'): assert load_images(tree(tmp_path/'loose', 'cat/1.png', 'dog/2.png', '3.png'), 8).labels is None


@pytest.mark.parametrize('names, at', [
    (('cat/1.png', 'dog/2.png'), ''), (('cat/1.png', 'dog/2.png', 'dog/deep/3.png'), ''), (('train/cat/1.png', 'train/dog/2.png', 'test/dog/3.png'), 'train'), (('train/cat/1.png', 'train/dog/2.png', 'test/dog/3.png'), 'test'),
    (('cat/train/1.png', 'dog/test/2.png', 'dog/train/3.png'), ''), (('set/train/cat/1.png', 'set/train/dog/2.png', 'set/test/cat/3.png'), 'set/train'), (('set/cat/train/1.png', 'set/dog/test/2.png'), 'set'),
    (('train/set/cat/1.png', 'train/set/dog/2.png'), 'train/set')], ids=['flat', 'deep', 'train', 'test', 'inside', 'wrapped', 'wrapped inside', 'wrapped below'])
def test_a_class_that_is_missing_is_missed(names, at, tmp_path):
    "Rejects three folders that become two classes without a word: one is empty, holds what no ending names, or is a link."
    folder = tree(tmp_path/'a', *names)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        classes = load_images(folder, 8).classes
    (folder/at/'.hidden').mkdir(), (folder/at/'notes.txt').write_text('x')
    (folder/at/'eel').mkdir(), (folder/at/'fox').mkdir(), (folder/at/'fox'/'1.psd').write_text('x')
    (folder/at/'gnu').symlink_to(tree(tmp_path/'b', '1.png')), (folder/at/'h\x1b').mkdir()
    with pytest.warns(UserWarning, match=r"^'h\\x1b', eel, fox, gnu: no class, since no image lies there, or the folder is a link$"): assert load_images(folder, 8).classes == classes == ('cat', 'dog')


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.sampled_from(['train', 'test', 'val', 'cat', 'dog', 'Train']), max_size=3).map(tuple), min_size=1, max_size=6))
def test_any_layout_is_divided_or_refused_or_left_whole(parents):
    try: depth = sources._split_level(parents)
    except ValueError as error: assert 'side by side' in str(error)
    else:
        if depth is not None: assert all(sources._split_word(p[depth]) in sources._split_words for p in parents)


def test_a_folder_that_can_not_be_read_raises(tmp_path, monkeypatch):
    "Rejects a search that passes over what it may not look into: of three classes two would be left."
    tree(tmp_path, 'cat/1.png', 'dog/2.png', 'eel/3.png')
    scan = os.scandir
    def refuse(path):
        if str(path).endswith('dog'): raise PermissionError(13, 'Permission denied', str(path))
        return scan(path)
    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.raises(PermissionError, match='dog'): load_images(tmp_path, 8)


def test_a_class_of_which_nothing_can_be_read_raises(tmp_path):
    tree(tmp_path, 'cat/1.png', 'dog/2.png', 'eel/3.png')
    (tmp_path/'dog'/'2.png').write_bytes(b'no picture')
    with pytest.raises(ValueError, match="of class 'dog' no image can be read: .*dog/2.png .not an image"): load_images(tmp_path, 8)
    put(tmp_path/'dog'/'4.png')
    with pytest.warns(UserWarning, match='1 of 4'): assert load_images(tmp_path, 8).classes == ('cat', 'dog', 'eel')


# ---- why a picture is not read

def many_scans(side, n):
    raw = bytes_of(PICTURE.resize((side, side)), 'JPEG', progressive=True)
    last = raw.rindex(b'\xff\xda')
    return raw[:last] + raw[last:-2]*n + raw[-2:]


FLOATS = bytes_of(Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)), 'TIFF')
REASONS = {
    'HEIC, which needs a package': (b'\0\0\0\x18ftypheic' + bytes(40), 'pip install pillow-heif'), 'HEIC of another camera': (b'\0\0\0\x18ftypmif1' + bytes(40), 'pillow-heif'),
    'floats': (FLOATS, 'floats, 0..1: save it with 8 or 16 bits'), 'float colours': (b'II*\0' + bytes(60), 'TIFF, or one of floats'), 'empty': (b'', 'empty'), 'text': (b'hello, this is no picture', 'not an image'),
    'half': (bytes_of(PICTURE, 'PNG')[:60], 'damaged|truncated'), 'half a JPEG': (bytes_of(PICTURE.resize((99, 99)), 'JPEG')[:500], '(?i)damaged|truncated'),
    'two thousand scans': (many_scans(64, 2000), r'too slow: drawn 20\d\d times over'), 'a large picture, drawn often': (many_scans(4000, 80), 'too slow'),
}


@pytest.mark.parametrize('name', REASONS)
def test_what_is_not_read_says_why(name, tmp_path, monkeypatch):
    raw, words = REASONS[name]
    (tmp_path/'x.png').write_bytes(raw)
    if 'too slow' in words: monkeypatch.setattr('PIL.ImageFile.ImageFile.load', lambda self: pytest.fail('decoded'))
    with pytest.raises(Unreadable, match=words) as said: read_image(tmp_path/'x.png', 8)
    assert str(said.value).isprintable() and len(str(said.value)) < 200


def slow_files():
    "Small files over which Pillow sits for a minute or more: one each kind of header it reads in a loop of its own."
    png, jpeg, gif = (bytes_of(PICTURE, kind) for kind in ('PNG', 'JPEG', 'GIF'))
    chunk = lambda kind, body: struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
    at, end, table = png.index(b'IDAT') - 4, png.index(b'IEND') - 4, 13 + 3*2**((gif[10] & 7) + 1)*(gif[10] >> 7)
    exif = b'\xff\xe1' + struct.pack('>H', 65535) + b'Exif\0\0' + bytes(65533 - 6)
    return {'chunks.png': png[:at] + chunk(b'teST', b'a')*300_000 + png[at:], 'empty data.png': png[:at] + chunk(b'IDAT', b'')*300_000 + png[at:], 'late data.png': png[:end] + chunk(b'IDAT', b'a')*300_000 + png[end:],
            'comments.jpg': jpeg[:2] + b'\xff\xfe\0\3a'*300_000 + jpeg[2:], 'exif.jpg': jpeg[:2] + exif*400 + jpeg[2:], 'comments.gif': gif[:table] + b'\x21\xfe\1a\0'*300_000 + gif[table:],
            'words.ppm': b'P3 2000 2000 255\n' + b'0 '*(3*2000*2000), 'a long comment.ppm': b'P6 #' + b'a'*1_000_000 + b'\n16 16 255\n' + bytes(768)}


@pytest.mark.parametrize('name', slow_files())
def test_a_header_of_a_million_parts_is_refused_in_seconds(name, tmp_path):
    "Rejects a bound on memory alone: 50 MB of numbers in words, or a comment as long, took half a minute."
    (tmp_path/name).write_bytes(slow_files()[name])
    with pytest.raises(Unreadable, match='too slow'): read_image(tmp_path/name, 8)


def test_an_honest_progressive_jpeg_is_read_and_its_scans_counted(tmp_path):
    for n in 1, 5: (tmp_path/'x.jpg').write_bytes(many_scans(64, n)); assert read_image(tmp_path/'x.jpg', 8).shape == (3, 8, 8) and sources._jpeg_scans(many_scans(64, n)) == 9 + n
    plain = bytes_of(PICTURE, 'JPEG')
    assert sources._jpeg_scans(plain) == 1 == sources._jpeg_scans(plain + many_scans(64, 99))   # what follows the end of a picture, a film for instance, is not drawn


def test_heic_is_read_once_its_package_is_there(monkeypatch):
    "Rejects advice that does not help."
    called = []
    monkeypatch.setitem(sys.modules, 'pillow_heif', types.SimpleNamespace(register_heif_opener=lambda: called.append(1)))
    sources._formats()
    assert called


def test_pipes_and_devices_are_refused_and_never_waited_for(tmp_path):
    "Rejects a program that opens a pipe to see what it is: it would wait for ever."
    os.mkfifo(tmp_path/'pipe.png')
    (tmp_path/'zero.png').symlink_to('/dev/zero')
    for name in 'pipe.png', 'zero.png':
        for door in lambda p: read_image(p, 8), open_regular, lambda p: atomic_write(p).__enter__(), lambda p: save_png(p, sheet(torch.zeros(1, 1, 4, 4))):
            with pytest.raises((Unreadable, OSError), match='pipe'): door(tmp_path/name)
    os.mkfifo(tmp_path/'.a.txt.half-12345678.txt')   # named like what a killed writer leaves
    with atomic_write(tmp_path/'a.txt') as p: p.write_text('a')
    assert stat.S_ISFIFO((tmp_path/'.a.txt.half-12345678.txt').stat().st_mode) and (tmp_path/'a.txt').read_text() == 'a'


def test_what_is_named_like_a_checkpoint_and_is_no_file_is_said_to_be_none(tmp_path):
    "Rejects 'which is not there', said of a pipe that is there."
    os.mkfifo(tmp_path/'checkpoint.safetensors')
    (tmp_path/'folder.safetensors').mkdir()
    for name in 'checkpoint', 'folder':
        with pytest.raises(ValueError, match='got .*safetensors, which is a folder, a pipe or a device'): load_tensors(tmp_path/f'{name}.safetensors')
    with pytest.raises(ValueError, match='which is not there'): load_tensors(tmp_path/'absent.safetensors')
    images = Images(bundled_fashion().pixels[:8, :, ::4, ::4].contiguous(), name='small')
    card = make_card(dict(channels=1, width=8, mults=[1], patch=1, blocks=1, attend=[]), Recipe(steps=3, batch=4, warmup=1, precision='float32'), size=7)
    with pytest.raises(ValueError, match='a pipe or a device'): resume(Run(card, images), tmp_path)


def test_names_that_moved_are_found_with_a_warning():
    "Rejects an old import path that breaks, and one that says nothing."
    from ddpm_lesson import data
    for name, home in ('find_source', sources), ('full_path', sys.modules['ddpm_lesson.engine.files']):
        with pytest.warns(DeprecationWarning, match=f'{name} is in {home.__name__} now'): assert getattr(data, name) is getattr(home, name)
    assert data.load_images is sources.load_images and data.debug_images is sources.debug_images
    for name in 'nonsense', '__path__', '_formats':
        with pytest.raises(AttributeError, match=name): getattr(data, name)


def test_a_link_named_like_a_half_written_file_is_left_alone(tmp_path):
    (tmp_path/'precious').write_text('mine')
    link = tmp_path/'.a.txt.half-12345678.txt'
    link.symlink_to(tmp_path/'precious')
    sweep(tmp_path/'a.txt')
    assert link.is_symlink() and (tmp_path/'precious').read_text() == 'mine'


def test_grey_and_colour_as_wanted(tmp_path):
    "Rejects a door that gives three channels to a network of one: no flag cured it."
    grey = np.random.default_rng(1).integers(0, 256, (8, 8), dtype=np.uint8)
    put(tmp_path/'a.png', Image.fromarray(grey).convert('RGB'))
    assert load_images(tmp_path, 8).pixels.shape == (1, 3, 8, 8)
    assert np.array_equal(load_images(tmp_path, 8, channels=1).pixels[0, 0].numpy(), grey)
    fashion = bundled_fashion(train=False)
    assert torch.equal(load_images('fashion', train=False, channels=3).pixels, fashion.pixels.expand(-1, 3, -1, -1)) and torch.equal(load_images('fashion', train=False, channels=1).pixels, fashion.pixels)
    assert repr(load_images(tmp_path, 8, channels=1)).endswith(': 1 of 1x8x8, 0 classes, cpu)')


def test_images_are_one_line_and_their_labels_have_names():
    x = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    assert '\n' not in repr(bundled_fashion()) and len(repr(bundled_fashion())) < 100
    assert Images(x, torch.tensor([0, 2, 1])).classes == ('0', '1', '2')
    for labels, classes in (torch.tensor([0, 1, 3]), ('a', 'b', 'c')), (torch.tensor([-1, 0, 0]), ('a',)), (torch.tensor([0.5, 0, 0]), ('a', 'b')), (torch.zeros(3, dtype=torch.int32), ('a',)):
        with pytest.raises(ValueError, match=r'labels wanted 0\.\.'): Images(x, labels, classes)
    for size in np.int64(8), np.uint8(8): assert load_images('debug', size).pixels.shape[-1] == 8
    for size in np.float64(8), np.bool_(True), 8.0, '8', None and 0:
        if size is not None:
            with pytest.raises(ValueError, match='size wanted'): load_images('debug', size)


# ---- writing

def mode(path): return path.stat().st_mode & 0o777


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no modes')
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path):
    "Rejects a writer that gives every file the mode of a new one: a private file would be open to all."
    for wanted in 0o600, 0o640, 0o664, 0o755:
        path = tmp_path/f'{wanted:o}'
        path.write_text('old'), path.chmod(wanted)
        with atomic_write(path) as p:
            assert mode(p) == wanted   # while it is written, too
            p.write_text('new')
        assert mode(path) == wanted and path.read_text() == 'new'
    path.chmod(0o444)
    with pytest.raises(PermissionError, match='marked read-only'), atomic_write(path) as p: p.write_text('newer')
    assert path.read_text() == 'new' and mode(path) == 0o444


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no umask')
def test_a_new_file_gets_the_mode_the_mask_gives_and_the_mask_is_never_set(tmp_path, monkeypatch):
    before = os.umask(0o027)
    try:
        monkeypatch.setattr(os, 'umask', lambda mask: pytest.fail('set for the whole process'))
        with atomic_write(tmp_path/'a') as p: p.write_text('a')
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert mode(tmp_path/'a') == 0o640
    assert not [p.name for p in (ROOT/'ddpm_lesson').glob('*.py') if 'umask(' in p.read_text(encoding='utf-8')]


def test_threads_that_write_make_no_file_of_another_mode(tmp_path):
    before, wrong = os.umask(0o077), []
    def write(k):
        for i in range(30):
            with atomic_write(tmp_path/f'{k}-{i}') as p: p.write_text('a')
            with open(tmp_path/f'plain-{k}-{i}', 'w') as f: f.write('b')
    try:
        threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
        for t in threads: t.start()
        for t in threads: t.join()
        wrong = [p.name for p in tmp_path.iterdir() if mode(p) != 0o600]
    finally: os.umask(before)
    assert not wrong and len(list(tmp_path.iterdir())) == 240


def test_a_link_leads_on_and_what_is_no_file_is_not_replaced(tmp_path):
    (tmp_path/'real').write_text('old')
    (tmp_path/'link').symlink_to('real')
    with atomic_write(tmp_path/'link') as p: p.write_text('new')
    assert (tmp_path/'link').is_symlink() and (tmp_path/'real').read_text() == 'new'
    (tmp_path/'folder').mkdir()
    for place in tmp_path/'folder', Path('/dev/null'):
        with pytest.raises(OSError, match='where a file was to be written'), atomic_write(place) as p: p.write_text('x')
    assert stat.S_ISCHR(os.stat('/dev/null').st_mode)


@pytest.mark.skipif(sys.platform != 'linux', reason='names of bytes')
def test_names_that_are_no_utf8_are_names(tmp_path):
    "Rejects a reader that takes a folder's name for damage of the file in it."
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b'/no utf-8 \xff'))
    save_tensors(folder/'w.safetensors', {'w': torch.eye(3)}, {'from': str(folder)})
    tensors, about = load_tensors(folder/'w.safetensors')
    assert torch.equal(tensors['w'], torch.eye(3)) and about == {'from': str(folder)}
    save_png(folder/'a.png', sheet(torch.zeros(1, 1, 4, 4)), {'drawn': {'at': str(folder)}, 'as': str(folder)})
    write_table([dict(a=1)], folder/'t.csv')
    (folder/'a.png').rename(folder/'b.png')
    images = load_images(folder, 8)
    assert len(images) == 1 and images.name.isprintable() and images.name.encode('utf-8')


def test_what_is_written_can_be_read_back(tmp_path):
    "Rejects a table that rounds 1e-7 to 0, and one in which the name '12' becomes a number."
    rows = [dict(name='12', rate=1e-7, ok=True, n=3, x=-123456.78, note='a, "b"\nc'), dict(name='null', rate=2.5e-12, ok=False, n=-4, x=math.inf, note='')]
    write_table(rows, tmp_path/'t.csv')
    assert read_table(tmp_path/'t.csv') == rows
    kept = dict(a=torch.eye(3).T.bfloat16(), b=torch.arange(12).reshape(3, 4)[:, ::2], c=torch.tensor(7), d=torch.nn.Parameter(torch.ones(2)), e=torch.zeros(0, 3))
    save_tensors(tmp_path/'w.safetensors', kept | dict(f=kept['a']), {'n': 1})
    back = load_tensors(tmp_path/'w.safetensors')[0]
    assert all(torch.equal(back[k], v) and back[k].dtype == v.dtype for k, v in kept.items()) and torch.equal(back['f'], kept['a'])
    with pytest.raises(ValueError): save_tensors(tmp_path/'x.safetensors', kept, {'loss': float('nan')})   # JSON has no NaN, and no reader takes it
    assert not (tmp_path/'x.safetensors').exists()


@pytest.mark.parametrize('lack', [MemoryError(), OSError(errno.EMFILE, 'Too many open files'), OSError(errno.ENFILE, 'Too many open files'), OSError(errno.ENOMEM, 'Cannot allocate memory')])
def test_what_the_machine_lacks_is_no_fault_of_a_picture(lack, tmp_path, monkeypatch):
    "Rejects a training on whatever pictures could be opened while another program had all files open, or all memory."
    Image.new('RGB', (8, 8)).save(tmp_path/'a.png')
    def fail(*a): raise lack
    monkeypatch.setattr(sources, 'open_regular', fail)
    with pytest.raises(type(lack)): load_images(tmp_path, 8)


@pytest.mark.parametrize('most, dark', [(255, True), (4095, True), (4096, False), (65535, False)])
def test_greys_of_eight_bits_kept_in_sixteen_are_said_to_be_dark(most, dark, tmp_path):
    "Rejects a folder of nearly black pictures, without a word, of a camera or a scanner that writes 12 bits in 16."
    Image.fromarray(np.array([[0, most]]*2, np.uint16)).save(tmp_path/'a.png')
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        load_images(tmp_path, 4, channels=1)
    assert ['nearly black' in str(w.message) for w in said] == [True]*dark


@pytest.mark.parametrize('bits', [8, 16])
def test_a_tiff_in_which_0_is_white_is_no_negative(bits, tmp_path):
    "Rejects what Pillow gives for 16 bits, as microscopes and scanners write them."
    pixels = np.full((8, 8), 250*257 if bits == 16 else 250, f'<u{bits//8}')
    pixels[4:] = 0
    tags = [(256, 8), (257, 8), (258, bits), (259, 1), (262, 0), (273, 8 + 2 + 12*9 + 4), (277, 1), (278, 8), (279, pixels.nbytes)]
    parts = b''.join(struct.pack('<HHII', tag, 4, 1, v) for tag, v in tags)
    (tmp_path/'x.tif').write_bytes(b'II*\0' + struct.pack('<IH', 8, len(tags)) + parts + bytes(4) + pixels.tobytes())
    x = read_image(tmp_path/'x.tif', 8, 1)
    assert x[0, 0].unique().tolist() == [5] and x[0, 7].unique().tolist() == [255]


def test_a_table_of_a_spreadsheet_and_a_return_are_read_back(tmp_path):
    "Rejects a first column whose name begins with an invisible mark, and a text that is lost with its carriage return."
    write_table([dict(a='x\ry', b=1)], tmp_path/'t.csv')
    (tmp_path/'t.csv').write_bytes(b'\xef\xbb\xbf' + (tmp_path/'t.csv').read_bytes())
    assert read_table(tmp_path/'t.csv') == [dict(a='x\ry', b=1)]


@pytest.mark.parametrize('name', ['x'*255, 'x'*240 + '.png', 'é'*120 + '.safetensors', 'x.' + 'y'*250])
def test_a_file_may_have_the_longest_name_that_there_is(name, tmp_path):
    "Rejects a half-written file whose name is longer than that of the whole one, so that what was drawn can not be kept."
    for text in 'old', 'new':
        with atomic_write(tmp_path/name) as p: p.write_text(text)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(name, 'new')]


def test_a_picture_of_floats_is_refused(tmp_path):
    "Rejects bytes that wrapped round: -1 is no colour."
    with pytest.raises(TypeError, match='wanted bytes'): save_png(tmp_path/'a.png', torch.zeros(1, 4, 4) - 1)
    assert not list(tmp_path.iterdir())


def test_sheets_and_films_say_what_they_want(tmp_path):
    x = torch.zeros(3, 1, 4, 4)
    for wrong in (dict(cols=0), dict(cols=-1), dict(cols=2.0), dict(zoom=0), dict(zoom=True)):
        with pytest.raises((ValueError, TypeError), match='(cols|zoom) wanted'): sheet(x, **wrong)
    assert torch.equal(sheet(x, cols=np.int64(2), zoom=np.int32(2)), sheet(x, cols=2, zoom=2))
    for wrong in x[0], x[:0]:
        with pytest.raises(ValueError, match='at least 1'): sheet(wrong)
    with pytest.raises(ValueError, match='at least one'): save_gif(tmp_path/'a.gif', [])
    assert not list(tmp_path.iterdir())


# ---- whatever the default device is

@pytest.fixture
def on_meta():
    torch.set_default_device('meta')
    yield
    torch.set_default_device(None)


def test_a_default_device_changes_nothing(on_meta, tmp_path):
    "Rejects a tensor made without a device: on 'meta' it has no numbers, on 'cuda' it does not meet the others."
    tree(tmp_path, 'train/cat/1.png', 'train/dog/2.png', 'test/cat/3.png')
    for images in load_images('fashion', 14), load_images('debug', 16, channels=1), load_images(tmp_path, 8), load_images(tmp_path, 8, train=False), load_images('fashion', channels=3, train=False):
        assert images.pixels.device.type == 'cpu' and (images.labels is None or images.labels.device.type == 'cpu')
    x = to_unit(load_images('fashion', train=False).pixels[:5])
    pixels = sheet(x, cols=3)
    save_png(tmp_path/'a.png', pixels), save_gif(tmp_path/'b.gif', [pixels, pixels])
    save_tensors(tmp_path/'c.safetensors', {'x': x}, {})
    back = load_tensors(tmp_path/'c.safetensors')[0]['x']
    assert back.device.type == pixels.device.type == 'cpu' and torch.equal(back, x)
    show_rows([x])


class Idx:
    "Stands where torchvision's sets stand: arrays and lists, as CIFAR-10 and MNIST give them."
    def __init__(self, root, train=True, download=False): self.data, self.targets, self.classes = np.zeros((2, 8, 8, 3), np.uint8), [0, 1], ['a', 'b']


def test_a_default_device_does_not_reach_torchvisions_sets(on_meta, tmp_path, monkeypatch):
    monkeypatch.setattr('torchvision.datasets.CIFAR10', Idx)
    images = load_images('cifar10', root=tmp_path)
    assert images.pixels.device.type == images.labels.device.type == 'cpu' and images.labels.tolist() == [0, 1]


@pytest.mark.parametrize('train, test', [('training_set', 'test_set'), ('train2017', 'val2017'), ('Train_Images', 'Test_Images'), ('train set', 'validation-set'), ('train.1', 'val')])
def test_parts_go_by_many_names(train, test, tmp_path):
    "Rejects a list of exact words: the test images would be learned from, and the parts taken for classes."
    where = tree(tmp_path, *(f'{part}/{kind}/1.png' for part in (train, test) for kind in ('cat', 'dog')))
    for part in True, False:
        images = load_images(where, 8, train=part)
        assert len(images) == 2 and images.classes == ('cat', 'dog')


def test_names_that_may_mean_parts_are_refused_and_trains_are_not(tmp_path):
    "Rejects guessing, both ways."
    for k, names in enumerate([('seg_train', 'seg_test'), ('trainA', 'testA'), ('train', 'test_hard')]):
        with pytest.raises(ValueError, match='side by side'): load_images(tree(tmp_path/str(k), *(f'{n}/1.png' for n in names)), 8)
    assert load_images(tree(tmp_path/'k', 'freight train/1.png', 'steam train/1.png'), 8).classes == ('freight train', 'steam train')


def test_rows_of_unequal_length_leave_no_empty_frames():
    "Rejects a frame with ticks where a row has no image, and a title that a short first row loses."
    fig = show_rows([torch.zeros(1, 1, 3, 3), torch.zeros(3, 1, 3, 3)], titles='abc')
    assert not any(ax.axison for ax in fig.axes) and [ax.get_title() for ax in fig.axes[:3]] == ['a', 'b', 'c']


@pytest.mark.parametrize('call, error', [
    (lambda: show_rows([torch.zeros(2, 1, 3, 3, dtype=torch.uint8)]), '`to_unit` makes images of bytes'), (lambda: to_show(torch.zeros(1, 3, 3) > 0), 'floating-point'),
    *((lambda s=s: to_show(torch.zeros(s)), 'images wanted shape') for s in ((3, 3), (2, 3, 3), (1, 1, 3, 3))), (lambda: show_rows(torch.zeros(2, 1, 3, 3)), 'images wanted shape'),
    *((lambda rows=rows: show_rows(rows), 'at least one image') for rows in ([], [[]])),
    *((lambda names=names: show_rows([torch.zeros(2, 1, 3, 3)]*2, **names), f'{[*names][0]} wanted 2, got 1') for names in (dict(titles=['a']), dict(labels=['a']))),
])
def test_what_is_no_picture_is_not_shown(call, error):
    "Rejects bytes shown as white, and matplotlib's words for a shape."
    with pytest.raises((TypeError, ValueError), match=error): call()
