#!/usr/bin/env bash
# The real coding agents through this proxy: installs them once outside the repository, then runs the matrix.
#   ./dev agents [flags of run_matrix.py]     all clients x all four formats, strict; takes half an hour
#   ./dev agents --clients codex --upstreams gemini --scenarios tool --keep
# AGENTS: where the clients are installed. AGENTS_JUDGE: the folder of run_matrix.py.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
agents=${AGENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/llm-proxy-agents}
judge=${AGENTS_JUDGE:-$root/../shared/tools/clients}
python=${LLM_PROXY_PYTHON:-$root/.venv/bin/python}
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")
clients=claude,claude-old,codex,codex-code,codex-login,gemini,aider
clients+=,opencode,opencode-responses,opencode-messages,opencode-gemini

[[ -e $judge/run_matrix.py ]] || { echo "agents: no run_matrix.py in $judge: set AGENTS_JUDGE" >&2; exit 1; }
mkdir -p "$agents"
cd "$agents"
if [[ ! -e npm.done ]]; then
  [[ -e package.json ]] || npm init -y >/dev/null
  npm install --no-audit --no-fund --engine-strict=false @anthropic-ai/claude-code@2.1.329 @openai/codex@0.169.0 \
    @google/gemini-cli@0.61.0 opencode-ai@1.18.33 node@22
  # npm 11 holds install scripts back; older ones know no such command and have run them.
  npm install-scripts approve @anthropic-ai/claude-code opencode-ai node || true
  npm rebuild
  touch npm.done
fi
if [[ ! -e pip.done ]]; then
  python3 -m venv harness && harness/bin/pip install -q aiohttp backports.zstd brotli
  python3 -m venv aider && aider/bin/pip install -q aider-chat==0.86.2
  touch pip.done
fi
exec harness/bin/python "$judge/run_matrix.py" --profile "$root/tests_py/judges/clients.toml" \
  --bin "$agents/node_modules/.bin:$agents/aider/bin" --var python="$python" --var root="$root" \
  --clients "$clients" --strict "$@"
