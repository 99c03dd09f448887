//! What a guest needs of Extism's ABI: its input, its output and its error, as bytes.
//!
//! The `extism-pdk` crate offers the same and more; this is all that these two guests use.

#[link(wasm_import_module = "extism:host/env")]
extern "C" {
    fn input_length() -> u64;
    fn input_load_u8(offset: u64) -> u32;
    fn input_load_u64(offset: u64) -> u64;
    fn alloc(size: u64) -> u64;
    fn store_u8(address: u64, value: u32);
    fn store_u64(address: u64, value: u64);
    fn output_set(address: u64, size: u64);
    fn error_set(address: u64);
}

/// What the host passed to this call.
pub fn input() -> Vec<u8> {
    let size = unsafe { input_length() } as usize;
    let mut bytes = Vec::with_capacity(size);
    let whole = size / 8 * 8;
    for at in (0..whole).step_by(8) {
        bytes.extend_from_slice(&unsafe { input_load_u64(at as u64) }.to_le_bytes());
    }
    for at in whole..size {
        bytes.push(unsafe { input_load_u8(at as u64) } as u8);
    }
    bytes
}

fn store(bytes: &[u8]) -> u64 {
    let address = unsafe { alloc(bytes.len() as u64) };
    let words = bytes.chunks_exact(8);
    let rest = words.remainder();
    for (index, word) in words.enumerate() {
        let value = u64::from_le_bytes(word.try_into().unwrap());
        unsafe { store_u64(address + index as u64 * 8, value) };
    }
    let end = address + (bytes.len() - rest.len()) as u64;
    for (index, byte) in rest.iter().enumerate() {
        unsafe { store_u8(end + index as u64, u32::from(*byte)) };
    }
    address
}

/// Answers the call. 0 is what an exported function returns when all is well.
pub fn answer(bytes: &[u8]) -> i32 {
    let address = store(bytes);
    unsafe { output_set(address, bytes.len() as u64) };
    0
}

/// The call has failed: the host applies the plugin's fail policy.
pub fn fail(why: &str) -> i32 {
    let address = store(why.as_bytes());
    unsafe { error_set(address) };
    1
}
