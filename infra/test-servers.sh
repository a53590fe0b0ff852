#!/usr/bin/env bash
# Installs the servers that the tests start (PostgreSQL, Slurm, Swift, nginx) and the browser of the UI tests, where
# apt-get can. Safe to repeat, and never fails: what cannot be installed is said, and its tests skip.
set -u
export DEBIAN_FRONTEND=noninteractive
packages=(
  postgresql slurm-wlm munge swift-proxy swift-account swift-container swift-object memcached
  chromium chromium-driver nginx
)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "test servers: all installed"
  exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "test servers: ${missing[*]} absent and not to be installed (needs root and apt-get); their tests skip"
  exit 0
fi
# a package that starts its service at once would take the ports and the cores of the tests
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod +x "$policy" && trap 'rm -f "$policy"' EXIT
fi
apt=(apt-get -qq -o Acquire::Retries=1 -o Acquire::http::Timeout=20)
timeout 300 "${apt[@]}" update || echo "test servers: apt-get update failed; trying with the lists there are"
timeout 600 "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 \
  && echo "test servers: ${missing[*]} installed" && exit 0
for package in "${missing[@]}"; do  # one that cannot be had stops no other
  timeout 300 "${apt[@]}" install -y --no-install-recommends "$package" >/dev/null 2>&1 \
    && echo "test servers: $package installed" || echo "test servers: $package cannot be installed; its tests skip"
done
exit 0
