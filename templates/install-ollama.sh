#!/bin/sh
# Installs Ollama OLLAMA_VERSION for one node, without root, into LLMHOST_OLLAMA_DIR (bin/ollama, lib/ollama), or changes nothing there.
# The names of the archives, and .tgz where there is no .tar.zst, are those of Ollama's own install.sh as of 0.24.0.
# It prints `progress DONE TOTAL` in bytes; a download that was broken off goes on where it ended.
# Exit codes: 41 no curl, 42 no zstd, 43 no archive for this processor, 44 download failed, 45 unpacking failed, 46 another one runs.
set -u
dir=$LLMHOST_OLLAMA_DIR
site=${LLMHOST_OLLAMA_SITE:-https://ollama.com/download}
part=$dir.part
draft=$dir.new
curl=
lock=
trap '[ -z "$curl" ] || kill "$curl" 2>/dev/null; [ -z "$lock" ] || rm -rf "$lock"' EXIT
trap 'exit 44' HUP INT PIPE TERM

fail() { code=$1; shift; printf '%s\n' "$*" >&2; exit "$code"; }

case $(uname -m) in
  x86_64 | amd64) arch=amd64 ;;
  aarch64 | arm64) arch=arm64 ;;
  *) fail 43 "there is no Ollama for $(uname -m)" ;;
esac
command -v curl >/dev/null || fail 41 "curl is not installed"

url_of() { printf '%s/ollama-linux-%s.%s?version=%s' "$site" "$arch" "$1" "$OLLAMA_VERSION"; }
head_of() { curl --fail --silent --show-error --head --location --connect-timeout 20 --max-time 60 "$(url_of "$1")"; }
# The node's own packages (LLMHOST_LIB) have zstd for a Python that has not.
py_zstd='import sys
sys.path.append(sys.argv[1])
try:
    from compression import zstd
except ImportError:
    from backports import zstd'
can_unzstd() { command -v zstd >/dev/null || "$LLMHOST_PYTHON" -I -c "$py_zstd" "${LLMHOST_LIB:-}" 2>/dev/null; }
unzstd() {
  if command -v zstd >/dev/null; then zstd -dc; else
    "$LLMHOST_PYTHON" -I -c "$py_zstd
import shutil
shutil.copyfileobj(zstd.open(sys.stdin.buffer), sys.stdout.buffer)" "${LLMHOST_LIB:-}"
  fi
}

kind=tar.zst
headers=$(head_of "$kind")
status=$?
if [ "$status" = 22 ]; then
  kind=tgz
  headers=$(head_of "$kind")
  status=$?
fi
[ "$status" = 0 ] || fail 44 "$(url_of "$kind") cannot be had (curl: $status)"
if [ "$kind" = tar.zst ]; then can_unzstd || fail 42 "zstd is not installed"; fi
total=$(printf '%s\n' "$headers" | tr -d '\r' | sed -n 's/^[Cc]ontent-[Ll]ength: *//p' | tail -n 1)
size() { if [ -f "$part" ]; then wc -c <"$part" | tr -d ' '; else echo 0; fi; }

# Two at once would write into one file. A lock whose holder is gone counts no more.
mkdir -p "$(dirname "$dir")" || fail 45 "cannot make the folder of $dir"
if ! mkdir "$dir.lock" 2>/dev/null; then
  holder=$(cat "$dir.lock/pid" 2>/dev/null)
  if [ -n "$holder" ] && kill -0 "$holder" 2>/dev/null; then fail 46 "another installation is under way (process $holder)"; fi
  mkdir -p "$dir.lock" || fail 45 "cannot write beside $dir"
fi
lock=$dir.lock
echo $$ >"$lock/pid"

# Another version's beginning is of no use to this one.
[ "$(cat "$part.of" 2>/dev/null)" = "$OLLAMA_VERSION $kind" ] || rm -f "$part"
printf '%s' "$OLLAMA_VERSION $kind" >"$part.of" || fail 45 "cannot write beside $dir"
if [ "$(size)" != "${total:-?}" ]; then
  curl --fail --silent --show-error --location --connect-timeout 20 --speed-limit 1 --speed-time 120 --retry 3 \
    --continue-at - --output "$part" "$(url_of "$kind")" &
  curl=$!
  while kill -0 "$curl" 2>/dev/null; do
    printf 'progress %s %s\n' "$(size)" "${total:-0}"
    sleep 0.5 2>/dev/null || sleep 1
  done
  wait "$curl"
  status=$?
  curl=
  if [ "$status" = 33 ]; then rm -f "$part"; fi # this server cannot go on in the middle: the next try begins anew
  if [ "$status" = 23 ]; then fail 45 "no space left on the device, or $part cannot be written"; fi
  [ "$status" = 0 ] || fail 44 "the download broke off (curl: $status)"
fi
printf 'progress %s %s\n' "$(size)" "${total:-0}"

rm -rf "$draft"
mkdir -p "$draft" || fail 45 "cannot make $draft"
if [ "$kind" = tar.zst ]; then unzstd <"$part"; else gzip -dc <"$part"; fi | tar -xf - -C "$draft"
status=$?
if [ "$status" != 0 ] || [ ! -x "$draft/bin/ollama" ]; then
  rm -rf "$draft" "$part"
  fail 45 "the archive cannot be unpacked (tar: $status)"
fi
if ! { rm -rf "$dir" && mv "$draft" "$dir" && rm -f "$part" "$part.of"; }; then fail 45 "cannot put Ollama into $dir"; fi
