#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/format.h"

// What the codec tests share: a slow splitter of server-sent events, a reader of replies that
// builds trees and knows nothing of the codecs, and the way to the corpus.
namespace llm_proxy::test {

using Json = nlohmann::ordered_json;

struct Frame {
  std::string event, data;
};

// Splits a recorded stream, whose lines end in LF or CRLF.
inline std::vector<Frame> frames_of(std::string_view text) {
  std::vector<Frame> frames;
  Frame frame;
  bool has_data = false;
  const auto flush = [&] {
    if (has_data) frames.push_back(frame);
    frame = {};
    has_data = false;
  };
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    const auto value = [&](std::size_t skip) {
      std::string_view rest = line.substr(skip);
      if (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
      return std::string(rest);
    };
    if (line.empty()) {
      flush();
    } else if (line.starts_with("data:")) {
      frame.data += (has_data ? "\n" : "") + value(5);
      has_data = true;
    } else if (line.starts_with("event:")) {
      frame.event = value(6);
    }
  }
  flush();
  return frames;
}

// Feeds a reply to a decoder; nothing when all went well.
inline std::optional<Error> decode_stream(ReplyDecoder& decoder, std::string_view text,
                                          EventSink& sink) {
  for (const Frame& frame : frames_of(text)) {
    // Copies of exact size, so that a sanitizer sees every read past the end.
    const std::vector<char> data(frame.data.begin(), frame.data.end());
    Result<void> step = decoder.on_stream_event(frame.event, {data.data(), data.size()}, sink);
    if (!step) return step.error();
  }
  Result<void> end = decoder.on_stream_end(sink);
  if (!end) return end.error();
  return std::nullopt;
}

// The events of a reply as text, one line each: what table tests compare.
class EventLog : public EventSink {
 public:
  void on_event(const Event& event) override {
    std::visit([this](const auto& each) { add(each); }, event);
  }
  std::string text;

 private:
  void add(const ReplyStart& start) { text += "start " + start.model.decode() + "\n"; }
  void add(const PartStart& part) {
    constexpr const char* kKinds[] = {"text", "thinking", "refusal", "call", "raw"};
    text += std::to_string(part.index) + " " + kKinds[static_cast<int>(part.kind)];
    if (part.redacted) text += " redacted";
    if (part.kind == PartKind::tool_call)
      text += " " + part.name.decode() + " " + part.call_id.decode();
    if (part.kind == PartKind::raw) text += " " + std::string(part.raw_type);
    text += ":";
  }
  void add(const PartDelta& delta) { text += delta.text.decode() + "|"; }
  void add(const PartSeal& seal) { text += " seal " + seal.seal.token.decode(); }
  void add(const PartAnnotation&) { text += " note"; }
  void add(const PartEnd&) { text += "\n"; }
  void add(const UsageUpdate& update) {
    const Usage& usage = update.usage;
    text += "usage in " + std::to_string(usage.input.value_or(-1)) + " out " +
            std::to_string(usage.output.value_or(-1));
    if (usage.cached) text += " cached " + std::to_string(*usage.cached);
    if (usage.written) text += " written " + std::to_string(*usage.written);
    if (usage.reasoning) text += " reasoning " + std::to_string(*usage.reasoning);
    text += "\n";
  }
  void add(const Finish& finish) {
    constexpr const char* kReasons[] = {"stop",       "stop_sequence",  "length",  "context_full",
                                        "tool_calls", "content_filter", "refusal", "pause",
                                        "bad_call",   "other"};
    text += std::string("finish ") + kReasons[static_cast<int>(finish.reason)] + "\n";
  }
  void add(const Error& error) {
    text += "error " + std::string(name(error.kind)) + " " + error.message + "\n";
  }
};

// A corpus record.
struct Record {
  std::string id;
  std::string provider;
  Json json;

  std::string request_body() const {
    if (!json.contains("request") || json["request"].is_null()) return {};
    const Json& request = json["request"];
    return request.contains("body") && request["body"].is_object() ? request["body"].dump() : "";
  }
  bool is_stream() const { return json["response"].contains("sse"); }
  int status() const { return json["response"]["status"].get<int>(); }
  std::string response() const {
    const Json& response = json["response"];
    if (response.contains("sse")) {
      std::string text;
      for (const Json& line : response["sse"]) text += line.get<std::string>();
      return text;
    }
    if (response.contains("body")) return response["body"].dump();
    return response.value("body_text", "");
  }
};

// The records of one format, or nothing where there is no corpus. In CI that is a failure, which
// the caller reports.
inline std::vector<Record> corpus(const std::string& format) {
  const char* given = std::getenv("LLM_PROXY_CORPUS");
  const std::filesystem::path root =
      given != nullptr ? given : LLM_PROXY_SOURCE_DIR "/../shared/corpus";
  std::vector<Record> records;
  std::error_code none;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root / format, none)) {
    if (entry.path().extension() != ".json") continue;
    std::ifstream file(entry.path());
    Record record;
    record.json = Json::parse(file);
    record.id = record.json["id"].get<std::string>();
    record.provider = record.json.value("provider", "");
    records.push_back(std::move(record));
  }
  return records;
}

inline bool in_ci() {
  const char* ci = std::getenv("CI");
  return ci != nullptr && *ci != '\0';
}

}  // namespace llm_proxy::test
