"""What stands beside the sources: Makefile, Arduino library, memory plan, a page to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgegraft.export.c.emit import names_of
from edgegraft.export.c.model import Model
from edgegraft.export.c.text import word

_MAKEFILE = """# make selftest: compile for this machine and run the golden windows.
# make size CC=arm-none-eabi-gcc ARCH="-mcpu=cortex-m4 -mthumb": bytes for a board.
CC ?= cc
ARCH ?=
OPTIMIZE ?= -O2
CFLAGS ?= -std=c99 -Wall -Wextra -Wpedantic -Wconversion -Werror -ffp-contract=off \\
    -ffunction-sections -fdata-sections
SOURCES = @sources
OBJECTS = $(SOURCES:.c=.o)

all: lib@model.a

%.o: %.c $(wildcard src/*.h)
\t$(CC) $(ARCH) $(OPTIMIZE) $(CFLAGS) -Isrc -c $< -o $@

lib@model.a: $(OBJECTS)
\t$(AR) rcs $@ $^

selftest: selftest.o src/@model_golden.o lib@model.a
\t$(CC) $(ARCH) $(OPTIMIZE) $^ -Wl,--gc-sections -lm -o $@
\t./selftest

size: $(OBJECTS)
\t$(patsubst %gcc,%size,$(CC)) $(OBJECTS)

clean:
\trm -f $(OBJECTS) selftest.o src/@model_golden.o lib@model.a selftest

.PHONY: all size clean
"""

_SKETCH = """// Runs the golden windows and prints whether this board computes what the bundle does.
#include <@model.h>
#include <@model_golden.h>

static uint8_t arena[@MODEL_ARENA_BYTES] __attribute__((aligned(16)));
static float probabilities[@MODEL_OUTPUT_SIZE];

void setup() {
  Serial.begin(115200);
  while (!Serial) {
  }
  float largest = 0;
  for (int32_t n = 0; n < @MODEL_GOLDEN_WINDOWS; n++) {
    const float *expected = @model_golden_probabilities + n * @MODEL_OUTPUT_SIZE;
    @model_run(@model_golden_x + n * @MODEL_INPUT_SIZE, probabilities, arena);
    for (int32_t i = 0; i < @MODEL_OUTPUT_SIZE; i++) {
      const float difference = probabilities[i] - expected[i];
      const float size = difference < 0 ? -difference : difference;
      largest = size > largest ? size : largest;
    }
  }
  Serial.print(largest <= @MODEL_GOLDEN_TOLERANCE ? "PASS " : "FAIL ");
  Serial.println(largest, 6);
}

void loop() {}
"""


def library(
    model: Model, name: str, version: int, streams: Sequence[str] = ()
) -> Mapping[str, bytes]:
    """All files but the sources: path -> bytes.

    Args:
        streams: paths of what ties the model to a live stream.
    """
    prefix, upper = model.prefix, model.prefix.upper()
    sources = [f"src/{prefix}.c", *(f"src/{n}" for n in names_of(model.blocks) if n.endswith(".c"))]
    sources += [path for path in streams if path.endswith(".c")]

    def filled(text: str) -> bytes:
        text = text.replace("@sources", " ".join(sources))
        return text.replace("@model", prefix).replace("@MODEL", upper).encode("ascii")

    return {
        "Makefile": filled(_MAKEFILE),
        "library.properties": _properties(model, name, version).encode("ascii"),
        "examples/SelfTest/SelfTest.ino": filled(_SKETCH),
        "memory-plan.txt": memory(model).encode("ascii"),
        "README.md": page(model, name, sources).encode("ascii"),
    }


def memory(model: Model) -> str:
    """The memory plan as text."""
    head = [f"arena {model.arena_bytes} bytes, weights {model.weight_bytes} bytes"]
    if model.integers is not None:
        head.append(f"of the arena, {model.s8_arena_bytes} bytes for {model.prefix}_run_s8:")
    return "\n".join([*head, "", model.plan.table(), ""])


def _properties(model: Model, name: str, version: int) -> str:
    title = "".join(sign for sign in word(name) if sign.isalnum() or sign in "_-") or "model"
    return "\n".join(
        [
            f"name=Edgegraft_{title[:40]}",
            f"version={version}.0.0",
            "author=Edgegraft",
            "maintainer=Edgegraft",
            f"sentence=The model {word(name)} as plain C.",
            "paragraph=Written from a bundle; the example runs its golden windows.",
            "category=Data Processing",
            "url=",
            "architectures=*",
            f"includes={model.prefix}.h",
            "",
        ]
    )


def page(model: Model, name: str, sources: Sequence[str]) -> str:
    """README.md of the folder."""
    prefix, upper = model.prefix, model.prefix.upper()
    integer = (
        [
            "",
            f"Without floating point: `{prefix}_run_s8` takes int8 in the scale "
            f"`{upper}_INPUT_SCALE`, and gives int8 in `{upper}_OUTPUT_SCALE`.",
        ]
        if model.integers is not None
        else []
    )
    stream = (
        [
            "",
            f"On a live stream: `{prefix}_push` in `{prefix}_stream.h` takes samples and gives",
            "events, with the window, the threshold and the smoothing of the bundle.",
        ]
        if f"src/{prefix}_stream.c" in sources
        else []
    )
    return "\n".join(
        [
            f"# {word(name)} in C",
            "",
            "C99, no dependencies but the C library's mathematics. Weights are constants; the only",
            f"memory is one arena of {model.arena_bytes} bytes that you give (memory-plan.txt).",
            "",
            "```c",
            f'#include "{prefix}.h"',
            "",
            f"static uint8_t arena[{upper}_ARENA_BYTES] __attribute__((aligned(16)));",
            f"static float probabilities[{upper}_N_CLASSES];",
            f"{prefix}_run(window, probabilities, arena);",
            "```",
            *integer,
            *stream,
            "",
            f"Add `src` to your project and compile {', '.join(f'`{s}`' for s in sources)}.",
            "`make selftest` runs the golden windows of the bundle here; on a board, call the same",
            "from `selftest.c` or, in the Arduino environment, the example SelfTest.",
            "Compile with `-ffp-contract=off` where floats must agree to the last bits.",
            "",
        ]
    )
