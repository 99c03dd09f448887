//! Pre-flight: refuses requests that hold one of the configured words, or stars the words out.
//!
//! config: { words: [..], action: "block" | "mask" }

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
    let words: Vec<String> = call["config"]["words"]
        .as_array()
        .map(|list| list.iter().filter_map(|word| word.as_str()).map(str::to_lowercase).collect())
        .unwrap_or_default();
    let mask = call["config"]["action"] == "mask";
    let mut found = None;
    if let Some(messages) = call["body"]["messages"].as_array_mut() {
        for message in messages {
            each_text(&mut message["content"], &mut |text| {
                for word in words.iter().filter(|word| !word.is_empty()) {
                    if text.to_lowercase().contains(word.as_str()) {
                        found = Some(word.clone());
                        *text = star_out(text, word);
                    }
                }
            });
        }
    }
    Ok(match found {
        None => json!({"action": "passthrough"}),
        Some(_) if mask => json!({"action": "modify", "body": call["body"].take()}),
        Some(word) => json!({
            "action": "block",
            "status_code": 400,
            "error_type": "word_guard",
            "message": format!("The word '{word}' is not allowed here"),
        }),
    })
}

/// A message's content is a text, or a list of parts of which some are text.
fn each_text(content: &mut Value, edit: &mut dyn FnMut(&mut String)) {
    match content {
        Value::String(text) => edit(text),
        Value::Array(parts) => {
            for part in parts {
                if let Some(Value::String(text)) = part.get_mut("text") {
                    edit(text);
                }
            }
        }
        _ => {}
    }
}

fn star_out(text: &str, word: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let wanted: Vec<char> = word.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < letters.len() {
        let end = at + wanted.len();
        let here = end <= letters.len()
            && letters[at..end].iter().zip(&wanted).all(|(a, b)| a.to_lowercase().eq(b.to_lowercase()));
        if here {
            out.extend(wanted.iter().map(|_| '*'));
            at = end;
        } else {
            out.push(letters[at]);
            at += 1;
        }
    }
    out
}
