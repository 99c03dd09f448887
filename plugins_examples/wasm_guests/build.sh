#!/usr/bin/env bash
# Builds the guests and puts word_guard.wasm and secret_filter.wasm here, and the tests' guest.
# Needs Rust's target wasm32-unknown-unknown: `rustup target add wasm32-unknown-unknown`, or on Debian
# `apt-get install rustc cargo libstd-rust-dev-wasm32 lld`.
set -euo pipefail
cd "$(dirname "$0")"
cargo=${CARGO_HOME:-$HOME/.cargo}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
export RUSTFLAGS="--remap-path-prefix=$PWD=. --remap-path-prefix=$cargo=cargo"
"${CARGO:-cargo}" build --release --locked --target wasm32-unknown-unknown
for guest in word_guard secret_filter; do
  cp "$CARGO_TARGET_DIR/wasm32-unknown-unknown/release/$guest.wasm" .
  chmod 644 "$guest.wasm"
done
lab=../../tests_py/wasm/lab
"${RUSTC:-rustc}" --edition 2021 --crate-type cdylib -O -C panic=abort -C strip=symbols \
  --remap-path-prefix="$PWD"=. --target wasm32-unknown-unknown -o $lab.wasm $lab.rs
sha256sum -- *.wasm $lab.wasm
