#!/usr/bin/env bash
# Install one missing Debian package that the set-up needs: as root, or with sudo if it needs no password.
set -euo pipefail
package=$1
as_root=""
if [ "$(id -u)" != 0 ]; then as_root="sudo -n"; fi
if ! command -v apt-get >/dev/null || ! $as_root true 2>/dev/null; then
  echo "'$package' is missing and cannot be installed without root rights: have it installed, then run this again." >&2
  exit 1
fi
echo "Installing $package …"
$as_root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends "$package" >/dev/null
