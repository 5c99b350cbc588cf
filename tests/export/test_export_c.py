"""Every primitive in C against NumPy: floats to 1e-4, integers bit for bit."""

from __future__ import annotations

import dataclasses
import re
import subprocess

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgegraft.compress.quantize import quantized_bundle
from edgegraft.export.c import host
from edgegraft.export.c.emit import emit, model_of, values_of
from edgegraft.export.c.exporter import CExporter
from edgegraft.export.c.operators import EMITTERS
from edgegraft.export.c.plan import ALIGNMENT, Life, planned
from edgegraft.testing.programs import CASES, flat_trees, program_of, random_trees, windows
from edgegraft.testing.runtimes import sample_bundle
from edgegraft_edge import bundle as bundles
from edgegraft_edge.errors import EdgegraftError, ExportError, OptionError
from edgegraft_edge.integer import INTEGER
from edgegraft_edge.primitives import PRIMITIVES
from edgegraft_edge.program import IDENTITY, Draft
from edgegraft_edge.tokens import READERS

QUICK = ("-O1", "-march=native", "-ffp-contract=off")
PORTABLE = ("-O1", "-ffp-contract=off")
needs_compiler = pytest.mark.skipif(host.compiler() is None, reason="no C compiler here")


@pytest.fixture(scope="module")
def compiled():
    """Every case in both layouts, in one library."""
    models = [model_of(CASES[kind], 3, 20, prefix=kind) for kind in CASES]
    models += [
        model_of(CASES[kind], 3, 20, prefix=f"blocks_{kind}", blocks=True)
        for kind in ("conv2d_int8", "dense_int8")
    ]
    return host.hosted_all(models, QUICK)


def assert_agrees(found, expected, exact=False):
    assert found.shape == expected.shape
    if exact:
        np.testing.assert_array_equal(found, expected)
    else:
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * scale)


def test_every_primitive_has_an_emitter():
    assert set(EMITTERS) == set(PRIMITIVES)


@needs_compiler
@pytest.mark.parametrize("kind", sorted(CASES))
def test_primitive_agrees_with_numpy(compiled, kind):
    x = windows(9)
    assert_agrees(compiled[kind](x), CASES[kind].run(x), exact=kind in INTEGER)


@needs_compiler
@pytest.mark.parametrize("kind", ["conv2d_int8", "dense_int8"])
def test_weights_in_blocks_give_the_same_bits(compiled, kind):
    x = windows(9)
    assert_agrees(compiled[f"blocks_{kind}"](x), CASES[kind].run(x), exact=True)


@needs_compiler
def test_quantising_takes_what_is_no_number_and_halves_as_numpy_does(compiled):
    steps = np.float32([np.nan, np.inf, -np.inf, 0.5, -0.5, 1.5, -1.5, 0.49999997, 126.5, -3e38])
    x = np.zeros((1, 3, 20), np.float32)
    x[0, 0, :10] = steps * np.float32(0.03)
    with np.errstate(invalid="ignore"):
        expected = CASES["quantize"].run(x)
    assert_agrees(compiled["quantize"](x), expected, exact=True)


# -- random programs


@st.composite
def int8_layers(draw):
    """A program of one int8 convolution or matrix with its own random numbers."""
    random = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    height, width, c_in = draw(st.integers(1, 4)), draw(st.integers(3, 40)), draw(st.integers(1, 9))
    kind = draw(st.sampled_from(["plain", "grouped", "depthwise", "dense"]))
    c_out = draw(st.integers(1, 37))
    groups = 1
    if kind == "grouped":
        groups = draw(st.sampled_from([g for g in range(1, c_in + 1) if c_in % g == 0]))
        c_out = groups * draw(st.integers(1, 5))
    if kind == "depthwise":
        groups = c_out = c_in = draw(st.integers(1, 37))
    zero = draw(st.integers(-128, 127))
    draft = Draft()
    image = draft.add("quantize", "x", scale=0.02, zero=zero)
    scales = {"x_scale": 0.02, "x_zero": zero, "scale": draw(st.sampled_from([0.003, 0.05, 1.5]))}
    scales |= {"zero": draw(st.integers(-128, 127)), "low": draw(st.sampled_from([-128, -7]))}
    bias = random.integers(-5000, 5000, c_out).astype(np.int32)
    weight_scale = random.uniform(1e-4, 0.02, c_out).astype(np.float32)
    if kind == "dense":
        weight = random.integers(-127, 128, (c_out, c_in)).astype(np.int8)
        made = draft.add("dense_int8", image, weight, bias, weight_scale, **scales)
    else:
        taps = draw(st.integers(1, height)), draw(st.integers(1, 3))
        attrs = {
            "stride": [draw(st.integers(1, 2)), draw(st.integers(1, 3))],
            "dilation": [1, draw(st.sampled_from([1, 1, 2])) if width > 4 else 1],
            "pad": [draw(st.integers(0, 2)) for _ in range(4)],
            "groups": groups,
        }
        weight = random.integers(-127, 128, (c_out, *taps, c_in // groups)).astype(np.int8)
        made = draft.add("conv2d_int8", image, weight, bias, weight_scale, **scales, **attrs)
    program = draft.finish(draft.add("dequantize", made, scale=1.0, zero=0))
    return program, (height, width, c_in)


@needs_compiler
@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(QUICK, id="native"),
        pytest.param(PORTABLE, id="portable", marks=pytest.mark.slow),
    ],
)
@settings(
    max_examples=1, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(layers=st.lists(int8_layers(), min_size=16, max_size=16))
def test_random_int8_layers_are_equal_bit_for_bit(flags, layers):
    """Many layers are compiled together: a compiler takes longer than all of them run."""
    models = [
        model_of(program, *shape, prefix=f"{'blocks' if blocks else 'rows'}_{n}", blocks=blocks)
        for n, (program, shape) in enumerate(layers)
        for blocks in (False, True)
    ]
    runs = host.hosted_all(models, flags)
    for n, (program, shape) in enumerate(layers):
        x = np.random.default_rng(n).normal(size=(3, *shape)).astype(np.float32) * 2
        expected = program.run(x)
        for layout in ("rows", "blocks"):
            assert_agrees(runs[f"{layout}_{n}"](x), expected, exact=True)


@needs_compiler
def test_chains_views_and_shared_values_agree():
    """What stays unwritten, what is read twice, what is turned, cut and framed on the way."""
    random = np.random.default_rng(3)
    programs = {"same": IDENTITY, "forest": flat_trees(random_trees(seed=5, depth=6, n_trees=9))}
    draft = Draft()
    centred = draft.add("sub", "x", draft.add("mean", "x", axes=[2]))
    power = draft.add("sqrt", draft.add("mean", draft.add("mul", centred, centred), axes=[2]))
    scaled = draft.add("div", centred, draft.add("maximum", power, np.float32(0.1)))
    frames = draft.add("frame", scaled, length=8, hop=3)
    spectrum = draft.add("matmul", frames, random.normal(size=(8, 5)))
    turned = draft.add("transpose", spectrum, axes=[0, 3, 1, 2])
    cut = draft.add("slice", turned, axis=3, start=4, stop=0, step=-2)
    both = draft.add("concat", cut, draft.add("exp", cut), axis=1)
    programs["spectrum"] = draft.finish(draft.add("reshape", both, shape=[-1]))
    draft = Draft()
    wide = draft.add("reshape", "x", shape=[3, 4, 5])
    one = draft.add("matmul", draft.add("transpose", wide, axes=[0, 1, 3, 2]), wide)
    two = draft.add("matmul", random.normal(size=(6, 5)), one)
    three = draft.add("matmul", two, random.normal(size=5))
    programs["batches"] = draft.finish(draft.add("softmax", three, axis=1))
    draft = Draft()
    zero = draft.add("mul", draft.add("mean", "x", axes=[1, 2], keepdims=False), np.float32(0))
    programs["constant"] = draft.finish(draft.add("add", zero, np.float32(0.5)))
    draft = Draft()
    factor = draft.add("mul", draft.constant(np.ones(20)), np.float32(3))
    programs["folded"] = draft.finish(draft.add("sort", draft.add("mul", "x", factor)))
    runs = host.hosted_all(
        [model_of(program, 3, 20, prefix=name) for name, program in programs.items()], QUICK
    )
    x = windows(6)
    for name, program in programs.items():
        assert_agrees(runs[name](x), program.run(x))


def test_long_sums_lose_nothing():
    if host.compiler() is None:
        pytest.skip("no C compiler here")
    program = program_of("mean", axes=[2])
    x = np.full((1, 1, 100_000), 0.1, np.float32)
    run = host.hosted(model_of(program, 1, 100_000), QUICK)
    np.testing.assert_allclose(run(x), 0.1, rtol=1e-6)


# -- the memory plan


@given(
    st.lists(
        st.tuples(st.integers(1, 400), st.integers(0, 12), st.integers(0, 6)),
        min_size=1,
        max_size=25,
    ),
    st.data(),
)
def test_values_that_live_together_never_overlap(parts, data):
    lives = [
        Life(f"v{n}", size, first, first + more) for n, (size, first, more) in enumerate(parts)
    ]
    shares = {}
    for life in lives:
        dying = [o.name for o in lives if o.last == life.first and o.name != life.name]
        dying = [name for name in dying if lives[int(name[1:])].first < life.first]
        if dying and data.draw(st.booleans()):
            shares[life.name] = data.draw(st.sampled_from(dying))
    plan = planned(lives, shares)
    offsets = plan.offsets
    assert set(offsets) == {life.name for life in lives}
    for life in lives:
        assert offsets[life.name] % ALIGNMENT == 0
        assert offsets[life.name] + life.size_bytes <= plan.arena_bytes
        for other in lives:
            together = life.first <= other.last and other.first <= life.last
            if life.name < other.name and together:
                apart = (
                    offsets[life.name] + life.size_bytes <= offsets[other.name]
                    or offsets[other.name] + other.size_bytes <= offsets[life.name]
                )
                handed = plan.shared.get(life.name) or plan.shared.get(other.name)
                assert apart or (
                    handed and min(life.last, other.last) == max(life.first, other.first)
                )


def test_plan_reuses_memory_and_is_printed():
    program = program_of("relu")
    draft = Draft()
    value = draft.add("softmax", "x", axis=1)
    for _ in range(5):
        value = draft.add("softmax", value, axis=2)
    model = model_of(draft.finish(value), 3, 20)
    assert model.arena_bytes == 240  # six values of 240 bytes, each in the place of the one before
    assert "240 bytes in all" in emit(draft.finish(value), 3, 20)["src/model.h"].decode()
    assert model_of(program, 3, 20).arena_bytes == 0


# -- refusals


def refused(call, code):
    with pytest.raises(EdgegraftError) as caught:
        call()
    assert caught.value.code == code
    return str(caught.value)


@pytest.mark.parametrize("kind", sorted(READERS))
def test_readers_of_text_are_refused_by_name(kind):
    assert kind in refused(lambda: EMITTERS[kind](None, None, None), "export-c-operation")


def test_computed_weights_are_refused_by_name():
    draft = Draft()
    weight = draft.add("reshape", "x", shape=[3, 20, 1])
    draft_ = draft.add("conv1d", "x", weight, np.zeros(3))
    with pytest.raises(ExportError):
        model_of(draft.finish(draft_), 3, 20)


def test_weights_that_are_no_numbers_are_refused():
    broken = np.full((20, 2), np.nan)
    refused(lambda: model_of(program_of("matmul", broken), 3, 20), "export-not-finite")


def test_sums_beyond_32_bits_are_refused():
    weight = np.full((2, 20), 127, np.int8)
    scales = {"x_scale": 0.03, "x_zero": -4, "scale": 0.05, "zero": 9}
    bias = np.full(2, (1 << 31) - 5, np.int32)
    draft = Draft()
    eight = draft.add("quantize", "x", scale=0.03, zero=-4)
    made = draft.add("dense_int8", eight, weight, bias, np.ones(2, np.float32), **scales)
    program = draft.finish(draft.add("dequantize", made, scale=1.0, zero=0))
    refused(lambda: model_of(program, 3, 20), "export-c-overflow")


def test_weights_beyond_a_microcontroller_are_refused():
    draft, value = Draft(), "x"
    for _ in range(3):
        value = draft.add("matmul", value, np.ones((2000, 2000), np.float32) * len(value))
    for _ in range(6):
        value = draft.add("add", value, np.random.default_rng(0).normal(size=(3, 2000)))
    program = draft.finish(value)
    big = Draft()
    huge = big.add("matmul", "x", np.zeros((20, 450_000), np.float32))
    refused(lambda: model_of(big.finish(huge), 3, 20), "export-c-size")
    assert program.size_bytes  # what is large and within the bound is another matter


@pytest.mark.parametrize("prefix", ["", "int", "eg_x", "Model", "a-b", "x" * 40])
def test_prefixes_that_are_no_names_are_refused(prefix):
    with pytest.raises(OptionError):
        model_of(IDENTITY, 3, 20, prefix=prefix)


@pytest.mark.parametrize("options", [{"golden": 0}, {"layout": "columns"}])
def test_options_out_of_range_are_refused(options):
    refused(lambda: CExporter(**options), "option-value")


def test_without_a_compiler_sources_are_still_written(monkeypatch):
    monkeypatch.setattr(host, "compiler", lambda: None)
    bundle = sample_bundle()
    said = refused(lambda: CExporter().export(bundle), "c-compiler-missing")
    assert "gcc" in said
    assert "src/model.c" in CExporter().sources(bundle)


@needs_compiler
def test_c_that_computes_something_else_is_not_offered():
    bundle = sample_bundle()
    wrong = dataclasses.replace(bundle, expected=bundle.expected[::-1].copy())
    refused(lambda: CExporter().export(wrong), "export-parity")


# -- the folder


HOSTILE = ('"; system("id"); //', "*/ int x = 1; /*", "??/\n#include <x>", "naïve\\ \x7f %s", "ok")


@pytest.fixture(scope="module")
def bundle():
    first = sample_bundle()
    return bundles.make(
        first.program, first.spec, HOSTILE[:3], golden=first.golden,
        name='evil"\nurl=http://x*/ `id`',
    )  # fmt: skip


@pytest.fixture(scope="module")
def bundle_s8(bundle):
    """Integer throughout: an affine front, one convolution, a head."""
    random = np.random.default_rng(1)
    draft = Draft()
    value = draft.add("div", draft.add("sub", "x", random.normal(size=(3, 1))), np.float32(1.7))
    for c_in, c_out in ((3, 12), (12, 20)):
        weight, bias = random.normal(size=(c_out, c_in, 5)) * 0.2, random.normal(size=c_out)
        value = draft.add("relu", draft.add("conv1d", value, weight, bias, stride=2, pad=[2, 2]))
    value = draft.add("mean", value, axes=[2], keepdims=False)
    logits = draft.add("add", draft.add("matmul", value, random.normal(size=(20, 3))), np.ones(3))
    program = draft.finish(draft.add("softmax", logits, axis=-1))
    float_ = bundles.make(program, bundle.spec, HOSTILE[:3], golden=bundle.golden)
    return quantized_bundle(float_, bundle.golden)


@needs_compiler
@pytest.mark.parametrize("layout", ["rows", "blocks"])
def test_a_quantised_bundle_is_integer_throughout_and_proved(bundle_s8, layout):
    exporter = CExporter(layout=layout)
    assert exporter.export(bundle_s8) is bundle_s8
    model = exporter.model(bundle_s8)
    assert model.integers is not None
    assert model.arena_bytes >= model.s8_arena_bytes
    run = host.hosted(model, QUICK)
    names = (model.integers.entry.output, model.integers.exit.inputs[0])
    x = np.random.default_rng(5).normal(size=(20, *bundle_s8.spec.shape)).astype(np.float32) * 2
    q, scores = values_of(model.program, x, *names)
    np.testing.assert_array_equal(run.quantized(x), q)
    np.testing.assert_array_equal(run.scores(q), scores)
    np.testing.assert_array_equal(run(x), bundle_s8.program.run(x))


def test_the_same_bundle_gives_the_same_bytes(bundle):
    assert CExporter().sources(bundle) == CExporter().sources(bundle)


def test_names_from_a_bundle_cannot_leave_their_strings(bundle):
    sources = CExporter().sources(bundle)
    text = sources["src/model.c"].decode("ascii")
    (names,) = re.findall(r"model_classes\[3\] = \{\n(.*?)\};", text, re.DOTALL)
    assert re.sub(r'"(\\.|[^"\\])*"', "", names).replace(",", "").strip() == ""
    assert "??" not in text
    assert sources["library.properties"].decode("ascii").count("\n") == 10
    for path in ("README.md", "library.properties"):
        assert "url=http" not in sources[path].decode("ascii")


def built(folder, sources, *flags):
    for path, data in sources.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    names = [path for path in sources if path.endswith(".c")]
    command = [host.compiler(), *host.STRICT, *flags, "-Isrc", *names, "-o", "run", "-lm"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return subprocess.run(
        [str(folder / "run")], cwd=folder, capture_output=True, text=True, check=False
    )


@needs_compiler
def test_selftest_passes_and_fails_when_it_should(bundle_s8, tmp_path):
    sources = dict(CExporter().sources(bundle_s8))
    done = built(tmp_path / "right", sources, *host.SANITIZED)
    assert (done.returncode, done.stdout.count("PASS")) == (0, 2), done.stderr
    text = sources["src/model.c"].decode()
    changed = re.sub(r"\.zero = (-?\d+)", lambda f: f".zero = {int(f[1]) + 3}", text)
    assert changed != text
    done = built(tmp_path / "wrong", {**sources, "src/model.c": changed.encode()}, "-O1")
    assert done.returncode != 0
    assert "FAIL" in done.stdout


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("layout", ["rows", "blocks"])
def test_all_kernels_run_clean_under_sanitizers(tmp_path, layout):
    """No undefined behaviour and no access out of bounds, in any kernel."""
    from edgegraft.export.c.emit import runtime, sources_of

    sources, lines, calls = dict(runtime(True)), ["#include <stdlib.h>"], []
    x = windows(3)
    table = ", ".join(f"{v:.8e}f" for v in x.ravel())
    for kind, program in CASES.items():
        model = model_of(program, 3, 20, prefix=kind, blocks=layout == "blocks")
        sources |= sources_of(model)
        lines.append(f'#include "{kind}.h"')
        size, arena = int(np.prod(model.output_shape)), max(model.arena_bytes, 1)
        calls += [
            f"    {{ float *out = malloc({size} * sizeof(float));",
            f"      unsigned char *arena = malloc({arena});",
            "      for (int n = 0; n < 3; n++) {",
            f"          {kind}_run(x + n * 60, out, arena);",
            "      }",
            "      free(out); free(arena); }",
        ]
    main = [*lines, f"static const float x[] = {{{table}}};", "int main(void)", "{", *calls]
    sources["main.c"] = "\n".join([*main, "    return 0;", "}", ""]).encode()
    extra = ("-march=native",) if layout == "blocks" else ()
    done = built(tmp_path, sources, *host.SANITIZED, *extra)
    assert done.returncode == 0, done.stderr


@needs_compiler
def test_makefile_and_sketch_name_what_is_there(bundle, tmp_path):
    sources = CExporter(prefix="tiny").sources(bundle)
    made = sources["Makefile"].decode()
    for name in re.findall(r"src/\w+\.c", made):
        assert name in sources
    assert "tiny_run(" in sources["examples/SelfTest/SelfTest.ino"].decode()
    assert "bytes in all" in sources["memory-plan.txt"].decode()


CORES = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m55")
ARM = "arm-none-eabi-gcc"


def arm(folder, *arguments):
    import shutil

    if shutil.which(ARM) is None:
        pytest.skip("gcc-arm-none-eabi is not installed")
    return subprocess.run(
        [ARM, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("core", CORES)
def test_generated_code_compiles_without_a_warning_for_boards(bundle_s8, tmp_path, core):
    for path, data in CExporter().sources(bundle_s8).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    names = sorted(str(path) for path in (tmp_path / "src").glob("*.c"))
    flags = (*host.STRICT, "-O2", "-mthumb", f"-mcpu={core}", "-Isrc")
    hard = ("-mfloat-abi=hard",) if core == "cortex-m55" else ()
    done = arm(tmp_path, *flags, *hard, "-c", *names)
    assert done.returncode == 0, done.stderr


def test_no_floating_point_is_linked_for_integers_alone(bundle_s8, tmp_path):
    for path, data in CExporter().sources(bundle_s8).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    (tmp_path / "main.c").write_text(
        '#include "model.h"\n'
        "static uint8_t arena[MODEL_S8_ARENA_BYTES];\n"
        "static int8_t input[MODEL_S8_INPUT_SIZE], scores[MODEL_OUTPUT_SIZE];\n"
        "int main(void) { model_run_s8(input, scores, arena); return scores[0]; }\n"
        "void _exit(int code) { (void)code; for (;;) { } }\n"
    )
    names = ["main.c", "src/model.c", "src/edgegraft_s8.c", "src/edgegraft_f32.c"]
    flags = ["-std=c99", "-O2", "-mcpu=cortex-m0plus", "-mthumb", "-ffunction-sections"]
    flags += ["-fdata-sections", "-Wl,--gc-sections", "-nostartfiles", "-Wl,-emain", "-Isrc"]
    done = arm(tmp_path, *flags, *names, "-lm", "-o", "out.elf", "-Wl,-Map=out.map")
    assert done.returncode == 0, done.stderr
    symbols = subprocess.run(
        ["arm-none-eabi-nm", "out.elf"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert "model_run_s8" in symbols
    floats = re.findall(r"__aeabi_[fd]\w+|\w*_f32|expf|malloc", symbols)
    assert floats == []


# -- raw counts


@needs_compiler
def test_raw_counts_become_int8_within_one_step_of_floats(bundle_s8):
    lsb = (1e-4, 3e-4, 2e-3)
    model = CExporter(counts=lsb).model(bundle_s8)
    run = host.hosted(model, QUICK)
    n_channels, n_timepoints = bundle_s8.spec.shape
    random = np.random.default_rng(2)
    counts = random.integers(-32768, 32768, (30, n_timepoints, n_channels)).astype(np.int16)
    x = (counts * np.array(lsb)).astype(np.float32).transpose(0, 2, 1)
    difference = run.counted(counts).astype(int) - run.quantized(x)
    assert np.abs(difference).max() <= 1
    assert (difference == 0).mean() > 0.99


def test_counts_that_make_no_sense_are_refused(bundle, bundle_s8):
    refused(lambda: CExporter(counts=(1.0, 1.0, 1.0)).model(bundle), "export-c-counts")
    for counts in [(1.0,), (1.0, -1.0, 1.0), (1e6, 1e6, 1e6)]:
        refused(lambda given=counts: CExporter(counts=given).model(bundle_s8), "export-c-counts")


@needs_compiler
def test_the_fastest_layout_of_this_machine_gives_the_same_bits(bundle_s8):
    run = host.fastest(bundle_s8.program, *bundle_s8.spec.shape)
    assert run.model.blocks == host.takes_blocks()
    np.testing.assert_array_equal(run(bundle_s8.golden), bundle_s8.program.run(bundle_s8.golden))
