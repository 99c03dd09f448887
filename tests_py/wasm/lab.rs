//! A guest that does what its configuration's `mode` says: the tests' opposite of a good guest.
//!
//!     rustc --crate-type cdylib -O -C panic=abort -C strip=symbols --target wasm32-unknown-unknown lab.rs

#[path = "../../plugins_examples/wasm_guests/abi/src/lib.rs"]
mod guest_abi;

fn after<'a>(input: &'a [u8], key: &[u8]) -> &'a [u8] {
    let found = input.windows(key.len()).position(|window| window == key);
    let rest = &input[found.map_or(input.len(), |at| at + key.len())..];
    &rest[..rest.iter().position(|byte| *byte == b'"').unwrap_or(rest.len())]
}

static mut CALLS: u32 = 0;

/// The same number; the compiler does not know that.
fn opaque(number: u64) -> u64 {
    unsafe { core::ptr::read_volatile(&number) }
}

#[no_mangle]
pub extern "C" fn handle() -> i32 {
    let input = guest_abi::input();
    match after(&input, b"\"mode\":\"") {
        b"loop" => loop {
            opaque(0);
        },
        b"allocate" => {
            let mut held: Vec<Vec<u8>> = Vec::new();
            loop {
                held.push(vec![1; 1 << 20]);
                opaque(held.len() as u64);
            }
        }
        b"trap" => panic!("a guest's own fault"),
        b"fail" => guest_abi::fail("no, thank you"),
        b"silent" => 0,
        b"deep" => {
            fn down(depth: u64) -> u64 {
                if opaque(depth) == u64::MAX { 0 } else { opaque(down(depth + 1)) + 1 }
            }
            down(0) as i32
        }
        b"count" => {
            let calls = unsafe {
                CALLS += 1;
                CALLS
            };
            guest_abi::answer(format!("{{\"action\":\"modify\",\"body\":{{\"calls\":{calls}}}}}").as_bytes())
        }
        b"input" => {
            let digits: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            guest_abi::answer(format!("{{\"action\":\"modify\",\"body\":{{\"input\":\"{digits}\"}}}}").as_bytes())
        }
        _ => {
            let digits = after(&input, b"\"say\":\"");
            let value = |digit: u8| (digit as char).to_digit(16).unwrap_or(0) as u8;
            let said: Vec<u8> = digits.chunks(2).map(|two| value(two[0]) * 16 + value(two[1])).collect();
            guest_abi::answer(if said.is_empty() { b"{}" } else { &said })
        }
    }
}

#[no_mangle]
pub extern "C" fn echo() -> i32 {
    guest_abi::answer(&guest_abi::input())
}
