// Gemini generateContent: reads usage, finish and errors from a reply that passes unchanged.

#include "formats/gemini_generate/wire.h"
#include "formats/shared/reasoning.h"
#include "json/reader.h"

namespace llm_proxy::gemini_generate {

namespace {

// Reads what a relayed reply says about itself; whoever shows it chunks shows each once.
class Observer final : public ReplyObserver {
 public:
  void on_stream_event(std::string_view, std::string_view data) override { read_chunk(data); }

  void on_whole(std::string_view body) override {
    JsonReader json(body);
    if (json.kind() == JsonKind::array) {
      json.begin_array();
      while (json.next_item()) {
        JsonSlice element;
        if (!json.object(element)) break;
        read_chunk(element);
      }
    } else {
      read_chunk(body);
      terminated_ = true;
    }
  }

 private:
  void read_chunk(std::string_view source) {
    JsonReader json(source);
    if (json.kind() != JsonKind::object) return;
    std::string_view key;
    json.begin_object();
    while (json.next_key(key)) {
      JsonSlice value;
      if (key == "usageMetadata" && json.kind() == JsonKind::object) {
        json.value(value);
        usage_ = read_usage(value);
      } else if (key == "candidates" && json.kind() == JsonKind::array) {
        read_candidates(json);
      } else if (key == "promptFeedback" && json.kind() == JsonKind::object) {
        json.value(value);
        const Text reason = string_member(value, "blockReason");
        if (!reason.empty()) set_finish(reason.decode());
      } else if (key == "error" && json.kind() == JsonKind::object) {
        json.skip();
        error_ = stream_error(source);
      }
    }
  }

  void read_candidates(JsonReader& json) {
    json.begin_array();
    while (json.next_item()) {
      if (json.kind() != JsonKind::object) {
        json.skip();
        continue;
      }
      std::string_view key;
      json.begin_object();
      while (json.next_key(key)) {
        JsonSlice value;
        Text word;
        if (key == "content" && json.value(value)) {
          if (!member(value, "parts").empty()) meaningful_ = true;
        } else if (key == "finishReason") {
          if (json.kind() == JsonKind::string && json.string(word)) {
            set_finish(word.decode());
          } else if (json.kind() == JsonKind::number && json.number(value)) {
            set_finish(std::string(value));
          }
        }
      }
    }
  }

  void set_finish(std::string word) {
    finish_word_ = std::move(word);
    terminated_ = true;
  }
};

}  // namespace

std::unique_ptr<ReplyObserver> make_observer() {
  return std::make_unique<Observer>();
}

}  // namespace llm_proxy::gemini_generate
