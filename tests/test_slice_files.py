"""Slices as files: what is written is read, other programs' layouts too, and what is no slice is
refused by name."""

import json

import numpy as np
import pytest

from jaxgeo.slices import SliceGrid, load_slice, save_slice

ALPHA, BETA = np.array([-0.5, 0.125, 0.3]), np.array([1e-3, 2.0])
RNG = np.random.default_rng(0)
SAMPLES = RNG.normal(size=(3, 2, 4, 5)).astype(np.float32)
FEATURES = RNG.normal(size=(3, 2, 7))
PARAMETERS = [[a, b] for a in ALPHA.tolist() for b in BETA.tolist()]
SHUFFLED = RNG.permutation(6)
PAIRS = [PARAMETERS[k] for k in SHUFFLED]
STACK = SAMPLES.reshape(6, 4, 5)[SHUFFLED]


def assert_is_the_slice(grid, samples=SAMPLES, features=FEATURES):
    for found, expected in zip(grid.axes, (ALPHA, BETA), strict=True):
        np.testing.assert_array_equal(found, expected)
    for found, expected in ((grid.samples, samples), (grid.features, features)):
        if expected is None:
            assert found is None
        else:
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == expected.dtype


def by_name(folder, names="alpha_{}_beta_{}.npy"):
    """One file a node; the embeddings in the order of the names sorted as text."""
    written = {names.format(a, b): k for k, (a, b) in enumerate(PARAMETERS)}
    for name, k in written.items():
        np.save(folder / name, SAMPLES.reshape(6, 4, 5)[k])
    return FEATURES.reshape(6, 7)[[written[name] for name in sorted(written)]]


# --- what is written is read


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("samples", "features"), [(1, 1), (1, 0), (0, 1)])
def test_saved_and_loaded(tmp_path, dtype, samples, features):
    axes = (ALPHA.astype(dtype), BETA.astype(dtype))
    grid = SliceGrid(axes, SAMPLES if samples else None, FEATURES if features else None)
    save_slice(grid, tmp_path / "one")
    loaded = load_slice(tmp_path / "one")
    save_slice(loaded, tmp_path / "two")
    for found in (loaded, load_slice(tmp_path / "two")):
        assert found.axes[0].dtype == dtype
        np.testing.assert_array_equal(found.parameters, grid.parameters)
        for a, b in zip(found[1:], grid[1:], strict=True):
            assert (a is None) == (b is None)
            if b is not None:
                np.testing.assert_array_equal(a, b)
                assert a.dtype == b.dtype
                assert isinstance(a.base, np.memmap)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"samples": None, "features": None}, "must hold samples or features"),
        ({"samples": SAMPLES[:2]}, r"'samples.npy' must fit axes of \(3, 2\) nodes, got .*2, 2"),
        ({"features": SAMPLES}, "'features.npy' must fit axes"),
        ({"samples": SAMPLES.astype(object)}, "cannot be written in dtype object"),
    ],
)
def test_what_cannot_be_saved(tmp_path, changed, message):
    grid = SliceGrid((ALPHA, BETA), SAMPLES, FEATURES)._replace(**changed)
    with pytest.raises(ValueError, match=message):
        save_slice(grid, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is not empty"):
        save_slice(SliceGrid((ALPHA, BETA), SAMPLES, None), tmp_path)
    with pytest.raises(ValueError, match="cannot write to the directory"):
        save_slice(SliceGrid((ALPHA, BETA), SAMPLES, None), tmp_path / "file")


# --- layouts of other programs


@pytest.mark.parametrize("gathered", [False, True])
def test_one_file_a_node(tmp_path, gathered):
    embeddings = by_name(tmp_path)
    (tmp_path / "alpha_notes.txt").touch()
    gather = tmp_path / "all.npy" if gathered else None
    grid = load_slice(tmp_path, embeddings=embeddings, gather=gather)
    assert_is_the_slice(grid)
    assert isinstance(grid.samples.base, np.memmap) == gathered
    np.save(tmp_path / "clip.npy", embeddings)
    assert_is_the_slice(load_slice(tmp_path, embeddings="clip.npy"))
    if gathered:
        with pytest.raises(ValueError, match=r"all\.npy' exists already"):
            load_slice(tmp_path, gather=gather)


def test_names_of_ones_own(tmp_path):
    by_name(tmp_path, "x{}@{}.npy")
    grid = load_slice(tmp_path, pattern=r"x(?P<alpha>.*)@(?P<beta>.*)\.npy")
    assert_is_the_slice(grid, features=None)


def write_csv(path, header, files):
    rows = [[repr(a), repr(b), *([f"{k}.npy"] if files else [])] for k, (a, b) in enumerate(PAIRS)]
    names = [["alpha", " beta", *(["file"] if files else [])]] if header else []
    path.write_text("\n".join(",".join(row) for row in names + rows) + "\n")


def write_json(path, header, files):
    rows = PAIRS
    if header:
        rows = [{"beta": b, "alpha": a} for a, b in PAIRS]
        if files:
            rows = [row | {"file": f"{k}.npy"} for k, row in enumerate(rows)]
    path.write_text(json.dumps(rows))


def write_table(path, header, files):
    np.save(path, PAIRS)


@pytest.mark.parametrize(
    ("name", "write", "header", "files"),
    [
        ("parameters.npy", write_table, False, False),
        ("grid.npy", write_table, False, False),
        ("grid.csv", write_csv, False, False),
        ("grid.csv", write_csv, True, False),
        ("grid.csv", write_csv, True, True),
        ("grid.json", write_json, False, False),
        ("grid.json", write_json, True, False),
        ("grid.json", write_json, True, True),
    ],
)
def test_a_record_of_rows_in_any_order(tmp_path, name, write, header, files):
    write(tmp_path / name, header, files)
    if files:
        for k, sample in enumerate(STACK):
            np.save(tmp_path / f"{k}.npy", sample)
    else:
        np.save(tmp_path / "samples.npy", STACK)
    embeddings = FEATURES.reshape(6, 7)[SHUFFLED]
    record = None if name == "parameters.npy" else name
    assert_is_the_slice(load_slice(tmp_path, record=record, embeddings=embeddings))
    np.save(tmp_path / "features.npy", embeddings)
    grid = load_slice(tmp_path, record=record, gather=tmp_path / "sorted.npy")
    assert_is_the_slice(grid)
    assert isinstance(grid.samples.base, np.memmap)


# --- what is no slice


def table(folder, parameters=PAIRS, samples=STACK, features=None):
    np.save(folder / "parameters.npy", parameters)
    if samples is not None:
        np.save(folder / "samples.npy", samples)
    if features is not None:
        np.save(folder / "features.npy", features)
    return folder


def test_nodes_that_are_no_full_grid_are_counted_and_named(tmp_path):
    full = [[a, b] for a in range(4) for b in range(3)]
    for parameters, message in (
        (full[:5] + full[6:8] + full[9:], r"2 nodes missing, the first \(1\.0, 2\.0\)\.$"),
        (full[1:], r"11 rows with 4 values of α and 3 of β .* 1 nodes missing, .* \(0\.0, 0\.0\)"),
        (full[:-1], r"1 nodes missing, the first \(3\.0, 2\.0\)"),
        ([*full, full[4], full[4], full[7]], r"2 nodes given more than once, .* \(1\.0, 1\.0\)"),
        (
            [*full[1:], full[4]],
            r"1 nodes missing, the first \(0\.0, 0\.0\); 1 nodes given more than once, the first "
            r"\(1\.0, 1\.0\)",
        ),
        ([*full[1:], [0, np.nan]], r"parameters.npy': .* finite, got \(0\.0, nan\) in row 11"),
        (np.zeros((4, 3)), r"must have shape \(n, 2\), got \(4, 3\)"),
        (np.zeros((0, 2)), r"must have shape \(n, 2\), got \(0, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            load_slice(table(tmp_path, parameters))
    scattered = RNG.normal(size=(60_000, 2))  # its table of nodes would take 29 GB
    with pytest.raises(ValueError, match=r"3599940000 nodes missing"):
        load_slice(table(tmp_path, scattered))


def spoiled(array, value):
    array = np.array(array)
    array.flat[array.size // 2] = value
    return array


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"samples": STACK[:5]}, r"samples\.npy' must have 6 rows, .* got shape \(5, 4, 5\)"),
        ({"samples": np.float64(3)}, r"samples\.npy' must have 6 rows, .* got shape \(\)"),
        ({"samples": spoiled(STACK, np.nan)}, r"samples\.npy' must be finite, got nan"),
        ({"samples": None}, "neither 'samples.npy' nor 'features.npy'"),
        ({"features": STACK}, r"embeddings must have shape \(6, m\), got \(6, 4, 5\)"),
        ({"features": spoiled(np.ones((6, 2)), np.inf)}, r"features\.npy' must be finite"),
        ({"samples": STACK.astype(complex)}, r"samples\.npy' holds complex numbers"),
        ({"samples": STACK.astype(str)}, r"samples\.npy' holds no numbers"),
    ],
)
def test_tables_that_do_not_fit_are_named(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        load_slice(table(tmp_path, **changed))


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (np.ones((5, 2)), r"`embeddings` must have 6 rows, .* got shape \(5, 2\)"),
        (spoiled(np.ones((6, 2)), np.nan), "`embeddings` must be finite, got nan"),
        ("none.npy", r"none\.npy' is not a .npy file"),
    ],
)
def test_embeddings_that_do_not_fit(tmp_path, embeddings, message):
    with pytest.raises(ValueError, match=message):
        load_slice(table(tmp_path), embeddings=embeddings)


def pickled(path):
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated, "is not a .npy file that can be read"),
        (lambda path: path.write_bytes(b""), "is not a .npy file that can be read"),
        (lambda path: path.write_text("text"), "is not a .npy file that can be read"),
        (pickled, "is not a .npy file that can be read"),
        (lambda path: np.save(path, np.ones((4, 6), np.float32)), r"must have shape \(4, 5\)"),
        (lambda path: np.save(path, np.ones((4, 5))), "and dtype float32 like .*, got .* float64"),
        (lambda path: np.save(path, spoiled(STACK[0], np.nan)), "must be finite, got nan"),
    ],
)
@pytest.mark.parametrize("stacked", [False, True])
def test_spoiled_files_are_named(tmp_path, damage, message, stacked):
    name = "samples.npy" if stacked else "alpha_0.125_beta_2.0.npy"
    if stacked:
        table(tmp_path)
        message = message if "read" in message else "samples.npy' must (have 6 rows|be finite)"
    else:
        by_name(tmp_path)
    damage(tmp_path / name)
    with pytest.raises(ValueError, match=message) as error:
        load_slice(tmp_path)
    assert name in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("r.csv", "alpha,beta\n1,2\n3\n", r"r\.csv' is no record of α and β, row by row"),
        ("r.csv", "1,2\n3,four\n", "could not convert string to float: 'four'"),
        ("r.csv", "1,2\n3\n", "is no record"),
        ("r.csv", "", r"must have shape \(n, 2\)"),
        ("r.csv", "1,2,3\n", r"must have shape \(n, 2\), got \(1, 3\)"),
        ("r.json", "[[1, 2", "is no record"),
        ("r.json", '{"alpha": 1}', "is no record"),
        ("r.json", '[{"alpha": 1}]', "KeyError"),
        ("r.json", "3", "is no record"),
        ("r.json", '[{"alpha": 1, "beta": 2}, [3, 4]]', "is no record"),
        ("r.txt", "", "must be .npy, .csv or .json"),
        ("r.npy", "", "is not a .npy file"),
    ],
)
def test_records_that_cannot_be_read(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        load_slice(tmp_path, record=name)
    with pytest.raises(ValueError, match=r"absent\.\w+'"):
        load_slice(tmp_path, record="absent" + name[1:])


def test_directories_and_patterns_that_hold_nothing(tmp_path):
    with pytest.raises(ValueError, match="is no directory"):
        load_slice(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no record, and no file whose name matches"):
        load_slice(tmp_path)
    with pytest.raises(ValueError, match="must have groups named alpha and beta"):
        load_slice(tmp_path, pattern=r"(\d+)\.npy")
    with pytest.raises(ValueError, match="is no regular expression"):
        load_slice(tmp_path, pattern="(")
    (tmp_path / "alpha_1e_beta_2.npy").touch()
    with pytest.raises(ValueError, match=r"alpha_1e_beta_2\.npy' is no name: could"):
        load_slice(tmp_path)
