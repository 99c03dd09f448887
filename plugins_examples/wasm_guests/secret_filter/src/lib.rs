//! Post-flight: takes what looks like a key out of answers.
//!
//! config: { prefixes: ["sk-", ..], min_length: 20, replacement: "[removed]" }

use serde_json::{json, Value};

#[no_mangle]
pub extern "C" fn handle() -> i32 {
    match run(&guest_abi::input()) {
        Ok(reply) => guest_abi::answer(reply.to_string().as_bytes()),
        Err(why) => guest_abi::fail(&why),
    }
}

fn run(input: &[u8]) -> Result<Value, String> {
    let mut call: Value = serde_json::from_slice(input).map_err(|error| error.to_string())?;
    let config = call["config"].take();
    let own = json!(["sk-", "ghp_", "AKIA", "xoxb-"]);
    let prefixes = config.get("prefixes").unwrap_or(&own).as_array().cloned().unwrap_or_default();
    let prefixes: Vec<&str> = prefixes.iter().filter_map(Value::as_str).collect();
    let least = config["min_length"].as_u64().unwrap_or(20) as usize;
    let replacement = config["replacement"].as_str().unwrap_or("[removed]");
    let mut removed = 0;
    let mut response = call["response"].take();
    if let Some(choices) = response["body"]["choices"].as_array_mut() {
        for choice in choices {
            if let Some(Value::String(text)) = choice["message"].get_mut("content") {
                let clean = filter(text, &prefixes, least, replacement, &mut removed);
                *text = clean;
            }
        }
    }
    if removed == 0 {
        return Ok(json!({"action": "passthrough"}));
    }
    let message = format!("{removed} secrets removed");
    Ok(json!({"action": "modify", "response": response, "message": message}))
}

fn filter(text: &str, prefixes: &[&str], least: usize, put: &str, removed: &mut u32) -> String {
    let of_key = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(of_key) {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(|letter| !of_key(letter)).unwrap_or(rest.len());
        let word = &rest[..end];
        if word.len() >= least && prefixes.iter().any(|prefix| word.starts_with(prefix)) {
            out.push_str(put);
            *removed += 1;
        } else {
            out.push_str(word);
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}
