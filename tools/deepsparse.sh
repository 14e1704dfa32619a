#!/usr/bin/env bash
# Set up .venv-deepsparse, the sparse engine's own environment, where DeepSparse can run. Everything else works without it.
# A second call does nothing, after a failure too, unless called with "again".
set -euo pipefail
wanted=requirements-deepsparse.txt
folder=.venv-deepsparse
without="Everything else works without it."

if cmp -s "$wanted" "$folder/.ready"; then exit 0; fi
if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then
  echo "DeepSparse is left out: it needs Linux on x86-64. $without"
  exit 0
fi
if [ "${1:-}" != again ] && cmp -s "$wanted" "$folder/.failed"; then
  echo "DeepSparse is left out: setting it up failed before; 'make deepsparse' tries again. $without"
  exit 0
fi
python=""
for candidate in "${PYTHON:-python3}" python3.11 python3.10; do
  if "$candidate" -c 'import sys, venv; sys.exit(not (3, 9) <= sys.version_info < (3, 12))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "DeepSparse is left out: it needs Python 3.9 to 3.11, which was not found. $without"
  exit 0
fi

rm -rf "$folder"
mkdir "$folder"
echo "Setting up DeepSparse in $folder (once) …"
install() {
  "$python" -m venv "$folder" &&
    "$folder/bin/python" -m pip install --quiet -r "$wanted" &&
    NM_DISABLE_ANALYTICS=1 "$folder/bin/python" -I -c 'import deepsparse'
}
if install >"$folder/log.txt" 2>&1; then
  cp "$wanted" "$folder/.ready"
else
  cp "$wanted" "$folder/.failed"
  echo "DeepSparse could not be set up: $(grep -v '^WARNING' "$folder/log.txt" | tail -n 1 | sed 's/^ERROR: //'). $without See $folder/log.txt; 'make deepsparse' tries again."
fi
