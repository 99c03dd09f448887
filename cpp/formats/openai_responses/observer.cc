// OpenAI Responses: reads usage, finish and errors from a reply that passes unchanged.

#include "formats/openai_responses/wire.h"
#include "formats/shared/provider_errors.h"
#include "json/reader.h"

namespace llm_proxy::openai_responses {

namespace {

class Observer final : public ReplyObserver {
 public:
  void on_stream_event(std::string_view event, std::string_view data) override {
    std::string_view type = event;
    StreamEvent parsed;
    std::string room;
    if (type.empty() || type == "error" || type == "message") {
      if (data == "[DONE]" || !read_event(data, parsed)) return;
      if (!parsed.type.empty()) type = parsed.type.decode_in(room);
      if (type.empty() && is_error(data)) type = "error";
    }
    if (type.ends_with(".delta") || type == "response.output_item.done") meaningful_ = true;
    if (type == "error") {
      error_ = decode_stream_error(data);
    } else if (type == "response.completed" || type == "response.incomplete" ||
               type == "response.failed") {
      if (parsed.response.empty() && !read_event(data, parsed)) return;
      read_final(parsed.response);
      terminated_ = true;
    }
  }

  void on_whole(std::string_view body) override {
    if (is_error(body)) error_ = decode_stream_error(body);
    read_final(body);
    terminated_ = true;
    meaningful_ = !member(body, "output").empty();
  }

 private:
  // An error object where a response or an event should be.
  static bool is_error(JsonSlice source) {
    const JsonSlice error = member(source, "error");
    return !error.empty() && error.front() == '{' && member(source, "output").empty();
  }

  void read_final(JsonSlice source) {
    ResponseObject response;
    if (!read_response(source, response)) return;
    if (!response.usage.empty()) usage_ = read_usage(response.usage);
    finish_word_ = response.incomplete_reason.empty() ? response.status.decode()
                                                      : response.incomplete_reason.decode();
    if (response.status == "failed") {
      std::string wrapped = "{\"error\":";
      wrapped += response.error.empty() ? JsonSlice("{}") : response.error;
      wrapped += '}';
      error_ = decode_stream_error(wrapped);
    }
  }
};

}  // namespace

std::unique_ptr<ReplyObserver> make_observer() {
  return std::make_unique<Observer>();
}

}  // namespace llm_proxy::openai_responses
