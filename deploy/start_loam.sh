#!/bin/sh
# Starts the server, for whoever has a start script in their service: what was start_mlx.sh. `loam service install` needs none.
# The names of the MLX server's settings work too (MLX_MODEL, MLX_HOST, MLX_PORT, MLX_MAX_TOKENS).
set -eu

export LOAM_MODEL="${LOAM_MODEL:-${MLX_MODEL:-mlx-community/Qwen2.5-32B-Instruct-4bit}}"
export LOAM_HOST="${LOAM_HOST:-${MLX_HOST:-0.0.0.0}}"
export LOAM_PORT="${LOAM_PORT:-${MLX_PORT:-8000}}"
export LOAM_MAX_TOKENS="${LOAM_MAX_TOKENS:-${MLX_MAX_TOKENS:-4096}}"

# LOAM: the program, if it is not on the PATH. --sandbox: see docs/operations.md.
exec "${LOAM:-loam}" serve --sandbox "$@"
