// OpenAI Chat Completions: reads usage, finish and errors from a reply that passes unchanged.

#include "formats/openai_chat/wire.h"
#include "formats/shared/provider_errors.h"
#include "formats/shared/reasoning.h"
#include "json/reader.h"
#include "json/scan.h"

namespace llm_proxy::openai_chat {

namespace {

class Observer : public ReplyObserver {
 public:
  void on_stream_event(std::string_view event, std::string_view data) override {
    usage_only_ = false;
    if (error_) return;
    if (data == "[DONE]") {
      terminated_ = true;
      return;
    }
    if (event == "error") {
      terminated_ = false;
      error_ = decode_stream_error(data);
      return;
    }
    if (meaningful_ && !is_telling(data)) return;
    read(data, false);
  }

  void on_whole(std::string_view body) override {
    read(body, true);
    terminated_ = true;
  }

 private:
  // Does `key`, quotes and colon included, have a value in `data`, and one that is not null?
  static bool has_value(std::string_view data, std::string_view key) {
    const char* const end = data.data() + data.size();
    const char* at = json_detail::find_bytes(data, key);
    if (at == end) return false;
    at += key.size();
    while (at != end && *at == ' ') ++at;
    return at == end || *at != 'n';
  }
  // Could say something but more content: a finish reason, usage, an error.
  static bool is_telling(std::string_view data) {
    return has_value(data, "\"finish_reason\":") || has_value(data, "\"usage\":") ||
           has_value(data, "\"error\":");
  }

  void read(std::string_view data, bool whole) {
    JsonReader json(data);
    std::string_view key;
    JsonSlice error;
    bool has_usage = false;
    bool no_choice = false;
    if (json.kind() != JsonKind::object || !json.begin_object()) return;
    while (json.next_key(key)) {
      if (key == "choices" && json.kind() == JsonKind::array) {
        no_choice = read_choices(json, whole) == 0;
      } else if (key == "usage" && json.kind() == JsonKind::object) {
        if (const Usage usage = read_usage(json); !usage.empty()) {
          usage_ = usage;
          has_usage = true;
        }
      } else if (key == "x_groq" && json.kind() == JsonKind::object) {
        json.begin_object();
        while (json.next_key(key)) {
          if (key == "usage" && json.kind() == JsonKind::object) usage_ = read_usage(json);
        }
      } else if (key == "error") {
        json.value(error);
      }
    }
    usage_only_ = has_usage && no_choice && error.empty();
    if (!json.failed() && !error.empty() && error != "null" && error != "{}" && error != "\"\"") {
      terminated_ = false;
      error_ = decode_stream_error(data);
    }
  }

  // How many there are.
  int read_choices(JsonReader& json, bool whole) {
    std::string_view key;
    int count = 0;
    json.begin_array();
    while (json.next_item()) {
      ++count;
      if (json.kind() != JsonKind::object || !json.begin_object()) continue;
      while (json.next_key(key)) {
        if ((key == "delta" || key == "message") && json.kind() == JsonKind::object) {
          json.begin_object();
          while (json.next_key(key)) {
            JsonSlice value;
            if (key != "role" && json.value(value) && value != "null" && value != "\"\"" &&
                value != "[]") {
              meaningful_ = true;
            }
          }
        } else if (key == "finish_reason") {
          Text word;
          if (json.maybe_string(word) && !word.empty()) {
            finish_word_ = word.decode();
            terminated_ = true;
          }
        }
      }
    }
    meaningful_ |= whole && count > 0;
    return count;
  }
};

}  // namespace

std::unique_ptr<ReplyObserver> make_observer() {
  return std::make_unique<Observer>();
}

}  // namespace llm_proxy::openai_chat
