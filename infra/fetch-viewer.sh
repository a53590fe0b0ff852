#!/usr/bin/env bash
# Fetches the 3D viewer of the report (3Dmol.js) anew from the npm registry, with the licences of all that is inside
# of it, and checks both files against tasks/plots/viewer/SHA256SUMS. `--renew` writes that file instead, for another
# version. The project holds these files, so nobody needs this to build, install or run it.
set -euo pipefail
viewer=3dmol@2.5.5
bundled=(pako@2.1.0 upng-js@2.1.0 netcdfjs@3.0.0 iobuffer@5.4.0)

folder="$(cd "$(dirname "$0")/.." && pwd)/tasks/plots/viewer"
command -v npm >/dev/null || { echo "npm is absent; install Node.js, or use the files in $folder"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for package in "$viewer" "${bundled[@]}"; do
  npm pack --silent "$package" >/dev/null
done
tar -xzOf 3dmol-*.tgz package/build/3Dmol-min.js > 3Dmol-min.js
{
  echo "$viewer, https://www.npmjs.com/package/3dmol"
  tar -xzOf 3dmol-*.tgz package/LICENSE
  for package in "${bundled[@]}"; do
    printf '\n\n%s, bundled with 3Dmol.js\n\n' "$package"
    tar -xzOf "${package%@*}"-*.tgz package/LICENSE
  done
} > 3Dmol-LICENSE.txt
if [ "${1:-}" = --renew ]; then
  sha256sum 3Dmol-min.js 3Dmol-LICENSE.txt > SHA256SUMS
  cp 3Dmol-min.js 3Dmol-LICENSE.txt SHA256SUMS "$folder/"
else
  sha256sum --check "$folder/SHA256SUMS" && cp 3Dmol-min.js 3Dmol-LICENSE.txt "$folder/"
fi
