#!/bin/sh
# artifacts.sh PYTHON OUTPUT: everything that goes into the image, from the checkout in the current directory.
#
#   OUTPUT/site  the Python packages with their dependencies and the Rust extension
#   OUTPUT/bin   the entry points
#   OUTPUT/gate  the static gate
#
# Run by the Dockerfile's build stage, and on the host where there is no container registry.
set -eu
python=$1 output=$2
mkdir -p "$output/bin"

"$python" -m pip install --quiet "setuptools>=77" "setuptools-rust>=1.10" wheel
# The dependencies change rarely: kept apart, they are installed again only when their list changes.
requirements=$("$python" -c '
import tomllib
with open("pyproject.toml", "rb") as file:
    print("\n".join(tomllib.load(file)["project"]["dependencies"]))')
if [ "$(cat "$output/requirements" 2>/dev/null)" != "$requirements" ]; then
    rm -rf "$output/dependencies"
    # shellcheck disable=SC2086 # one requirement a word: none has a space
    "$python" -m pip install --quiet --target "$output/dependencies" $requirements
    rm -rf "$output/dependencies/bin"
    printf '%s\n' "$requirements" >"$output/requirements"
fi

# setuptools packs whatever a former build left here, deleted modules included.
rm -rf build/lib build/lib.* build/bdist.* "$output/wheel" "$output/site"
PYTHONWARNINGS=ignore CARGO_TARGET_DIR=${MIRRORFS_TARGET_DIR:-$PWD/target-mirrorfs} \
    "$python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$output/wheel" .
cp -a "$output/dependencies" "$output/site"
"$python" -m pip install --quiet --no-deps --target "$output/site" --upgrade "$output"/wheel/*.whl
rm -rf "$output/bin"
mv "$output/site/bin" "$output/bin"
sed -i '1s|^#!.*|#!/usr/bin/python3|' "$output"/bin/*

gate_target=${GATE_TARGET_DIR:-$PWD/target-gate}
(cd sidecar/gate && CARGO_TARGET_DIR=$gate_target cargo build --quiet --release --locked)
cp "$gate_target/x86_64-unknown-linux-gnu/release/gate" "$output/gate" 2>/dev/null ||
    cp "$gate_target/release/gate" "$output/gate"
