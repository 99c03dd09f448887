// Anthropic Messages: reads usage, finish and errors from a reply that passes unchanged.

#include "formats/anthropic_messages/wire.h"
#include "formats/shared/provider_errors.h"
#include "formats/shared/reasoning.h"
#include "json/reader.h"

namespace llm_proxy::anthropic_messages {

namespace {

// A block that is output by its start alone: tool_use, server_tool_use.
bool is_call(std::string_view block_start) {
  return block_start.find("_use\"") != std::string_view::npos;
}

class Observer : public ReplyObserver {
 public:
  void on_stream_event(std::string_view event, std::string_view data) override {
    if (event == "content_block_delta" || (event == "content_block_start" && is_call(data))) {
      meaningful_ = true;  // an empty block is no output yet
    } else if (event == "message_stop") {
      terminated_ = true;
    } else if (event != "ping" && event != "content_block_stop") {
      read(data);
    }
  }

  void on_whole(std::string_view body) override {
    read(body);
    terminated_ = true;
    meaningful_ = !member(body, "content").empty();
  }

 private:
  void read(std::string_view data) {
    JsonReader json(data);
    std::string_view key;
    Text type;
    JsonSlice error;
    if (json.kind() != JsonKind::object || !json.begin_object()) return;
    while (json.next_key(key)) {
      if (key == "type") {
        json.maybe_string(type);
      } else if (key == "usage") {
        counts_.read_from(json);
      } else if (key == "error") {
        json.value(error);
      } else if (key == "stop_reason") {
        read_word(json);
      } else if ((key == "message" || key == "delta") && json.kind() == JsonKind::object) {
        json.begin_object();
        while (json.next_key(key)) {
          if (key == "usage") counts_.read_from(json);
          if (key == "stop_reason") read_word(json);
        }
      }
    }
    if (json.failed()) return;
    usage_ = counts_.usage();
    if (type == "error" || (!error.empty() && error != "null")) error_ = decode_stream_error(data);
    if (type == "message_stop") terminated_ = true;
    meaningful_ = meaningful_ || type == "content_block_delta" ||
                  (type == "content_block_start" && is_call(data));
  }

  void read_word(JsonReader& json) {
    Text word;
    if (json.maybe_string(word)) finish_word_ = word.decode();
  }

  Counts counts_;
};

}  // namespace

std::unique_ptr<ReplyObserver> make_observer() {
  return std::make_unique<Observer>();
}

}  // namespace llm_proxy::anthropic_messages
