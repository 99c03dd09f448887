// Gemini generateContent: reads an upstream's reply, whole or streamed, as events.

#include <algorithm>
#include <array>
#include <deque>

#include "formats/gemini_generate/wire.h"
#include "formats/shared/ids.h"
#include "formats/shared/provider_errors.h"
#include "formats/shared/reasoning.h"
#include "json/reader.h"
#include "model/reply_meter.h"

namespace llm_proxy::gemini_generate {

namespace {

struct FinishRow {
  std::string_view word;
  int number;  // of old Vertex
  FinishReason reason;
};
constexpr std::array kFinishRows{
    FinishRow{"STOP", 1, FinishReason::stop},
    FinishRow{"MAX_TOKENS", 2, FinishReason::length},
    FinishRow{"SAFETY", 3, FinishReason::content_filter},
    FinishRow{"RECITATION", 4, FinishReason::content_filter},
    FinishRow{"OTHER", 5, FinishReason::other},
    FinishRow{"BLOCKLIST", 6, FinishReason::content_filter},
    FinishRow{"PROHIBITED_CONTENT", 7, FinishReason::content_filter},
    FinishRow{"SPII", 8, FinishReason::content_filter},
    FinishRow{"MALFORMED_FUNCTION_CALL", 9, FinishReason::bad_call},
    FinishRow{"LANGUAGE", -1, FinishReason::content_filter},
    FinishRow{"MODEL_ARMOR", -1, FinishReason::content_filter},
    FinishRow{"IMAGE_SAFETY", -1, FinishReason::content_filter},
    FinishRow{"IMAGE_PROHIBITED_CONTENT", -1, FinishReason::content_filter},
    FinishRow{"IMAGE_RECITATION", -1, FinishReason::content_filter},
    FinishRow{"UNEXPECTED_TOOL_CALL", -1, FinishReason::bad_call},
    FinishRow{"TOO_MANY_TOOL_CALLS", -1, FinishReason::bad_call},
    FinishRow{"MISSING_THOUGHT_SIGNATURE", -1, FinishReason::bad_call},
    FinishRow{"MALFORMED_RESPONSE", -1, FinishReason::bad_call},
};

FinishReason finish_of(std::string_view word) {
  for (const FinishRow& row : kFinishRows) {
    if (row.word == word || (row.number > 0 && std::to_string(row.number) == word))
      return row.reason;
  }
  return FinishReason::other;
}

// A value built from "set this path to that" (Vertex' streamed arguments), in the order of first
// mention.
class PathTree {
 public:
  // `append`: more of the string that stands at `path`. A path that leads nowhere sets nothing.
  void set(std::string_view path, JsonSlice value, bool append) {
    Node* node = &root_;
    if (!path.empty() && path.front() == '$') path.remove_prefix(1);
    int depth = 0;
    while (!path.empty() && ++depth <= kMaxDepth) {
      if (path.front() == '.') {
        const std::size_t end = std::min(path.find_first_of(".[", 1), path.size());
        node = child(*node, path.substr(1, end - 1));
        path.remove_prefix(end);
      } else if (path.substr(0, 2) == "['" || path.substr(0, 2) == "[\"") {
        const char quote = path[1];
        const std::size_t end = path.find(std::string{quote, ']'}, 2);
        if (end == std::string_view::npos) return;
        node = child(*node, path.substr(2, end - 2));
        path.remove_prefix(end + 2);
      } else if (path.front() == '[') {
        std::size_t index = 0;
        std::size_t at = 1;
        while (at < path.size() && path[at] >= '0' && path[at] <= '9' && index < kMaxIndex) {
          index = index * 10 + static_cast<std::size_t>(path[at++] - '0');
        }
        if (at == path.size() || path[at] != ']' || index >= kMaxIndex) return;
        node->is_array = true;
        while (node->children.size() <= index) {
          node->children.emplace_back();
          kept_ += kNodeCost;
        }
        if (kept_ > kMaxReply) return;
        node = &node->children[index].second;
        path.remove_prefix(at + 1);
      } else {
        return;
      }
    }
    kept_ += value.size();
    const bool both_strings =
        append && node->value.size() >= 2 && node->value.front() == '"' && value.front() == '"';
    if (both_strings) {
      node->value.pop_back();
      node->value += value.substr(1);
    } else {
      node->value = value;
    }
  }

  void write(std::string& out) const { write(root_, out, true); }
  // Bytes that it takes, and a little more.
  std::size_t kept() const { return kept_; }

 private:
  static constexpr std::size_t kNodeCost = 1024;  // a deque has its first block from the start
  static constexpr int kMaxDepth = 64;
  static constexpr std::size_t kMaxIndex = 10'000;

  struct Node {
    std::string value;  // JSON of a leaf
    bool is_array = false;
    std::deque<std::pair<std::string, Node>> children;
  };

  Node* child(Node& node, std::string_view key) {
    for (auto& [name, value] : node.children) {
      if (name == key) return &value;
    }
    kept_ += kNodeCost + key.size();
    return &node.children.emplace_back(std::string(key), Node()).second;
  }

  static void write(const Node& node, std::string& out, bool root) {
    if (node.children.empty()) {
      out += !node.value.empty() ? node.value : node.is_array ? "[]" : root ? "{}" : "null";
      return;
    }
    out += node.is_array ? '[' : '{';
    bool first = true;
    for (const auto& [key, value] : node.children) {
      if (!first) out += ',';
      first = false;
      if (!node.is_array) {
        out += '"';
        Text::plain(key).escape_to(out);
        out += "\":";
      }
      write(value, out, false);
    }
    out += node.is_array ? ']' : '}';
  }

  Node root_;
  std::size_t kept_ = 0;
};

// Gemini → events. A thinking part stays open until the next part shows whether it carries the
// thoughts' signature.
class Decoder final : public ReplyDecoder {
 public:
  Result<void> on_whole(std::string_view body, EventSink& sink) override {
    sink_ = &sink;
    whole_ = true;
    if (!valid_utf8(body)) return garbled("The upstream's answer is not valid UTF-8.");
    JsonReader json(body);
    if (json.kind() == JsonKind::array) {
      json.begin_array();
      while (json.next_item()) {
        JsonSlice element;
        if (!json.object(element)) break;
        if (auto taken = read_chunk(element); !taken) return taken;
        if (failed_) return {};
      }
      if (!json.finish()) return garbled("The upstream's answer is not valid JSON.");
    } else if (auto taken = read_chunk(body); !taken || failed_) {
      return taken;
    }
    if (!started_) return garbled("The upstream's answer is no generateContent response.");
    finish();
    return {};
  }

  Result<void> on_stream_event(std::string_view, std::string_view data, EventSink& sink) override {
    sink_ = &sink;
    if (failed_ || data == "[DONE]") return {};
    if (!valid_utf8(data)) return garbled("The upstream sent a chunk that is not UTF-8.");
    return read_chunk(data);
  }

  Result<void> on_stream_end(EventSink& sink) override {
    sink_ = &sink;
    if (failed_) return {};
    if (word_.empty()) return cut_short();
    finish();
    return {};
  }

 private:
  Result<void> read_chunk(std::string_view source) {
    JsonReader json(source);
    if (json.kind() != JsonKind::object)
      return garbled("The upstream sent a chunk that is no JSON object.");
    Text id, model;
    JsonSlice candidates, feedback, usage;
    bool known = false, error = false;
    std::string_view key;
    json.begin_object();
    while (json.next_key(key)) {
      if (key == "candidates" && json.kind() == JsonKind::array) {
        known = true;
        if (started_) {
          read_candidates(json);
        } else {
          json.value(candidates);
        }
      } else if (key == "usageMetadata" && json.kind() == JsonKind::object) {
        known = true;
        json.value(usage);
      } else if (key == "promptFeedback" && json.kind() == JsonKind::object) {
        known = true;
        json.value(feedback);
      } else if (key == "modelVersion") {
        known = true;
        json.maybe_string(model);
      } else if (key == "responseId") {
        json.maybe_string(id);
      } else if (key == "error" && json.kind() != JsonKind::null) {
        error = true;
      }
    }
    if (!json.finish()) return garbled("The upstream sent a chunk that is not valid JSON.");
    if (error) {
      failed_ = true;
      sink_->on_event(stream_error(source));
      return {};
    }
    if (!known)
      return whole_ ? garbled("The upstream's answer is no generateContent response.")
                    : Result<void>();
    if (!started_) {
      started_ = true;
      seed_ = id.decode();
      sink_->on_event(ReplyStart{id, model, 0});
      JsonReader first(candidates);
      if (!candidates.empty()) read_candidates(first);
    }
    if (!usage.empty()) sink_->on_event(UsageUpdate{read_usage(usage)});
    if (!feedback.empty()) {
      const Text reason = string_member(feedback, "blockReason");
      if (!reason.empty()) {
        word_ = reason.decode();
        blocked_ = true;
      }
    }
    return {};
  }

  void read_candidates(JsonReader& json) {
    json.begin_array();
    bool first = true;
    while (json.next_item()) {
      if (!first || json.kind() != JsonKind::object) {
        json.skip();
        continue;
      }
      first = false;
      read_candidate(json);
    }
  }

  void read_candidate(JsonReader& json) {
    // Candidates that are not the first come in chunks of their own, too: `index` may stand behind
    // the content.
    JsonSlice source;
    if (!json.object(source)) return;
    const JsonSlice index = member(source, "index");
    if (!index.empty() && index != "0") return;
    JsonReader fields(source);
    std::string_view key;
    fields.begin_object();
    while (fields.next_key(key)) {
      if (key == "content" && fields.kind() == JsonKind::object) {
        read_content(fields);
      } else if (key == "finishReason") {
        Text word;
        JsonSlice number;
        if (fields.kind() == JsonKind::string && fields.string(word)) {
          word_ = word.decode();
        } else if (fields.kind() == JsonKind::number && fields.number(number)) {
          word_ = number;
        }
      }
    }
  }

  void read_content(JsonReader& json) {
    std::string_view key;
    json.begin_object();
    while (json.next_key(key)) {
      if (key != "parts" || json.kind() != JsonKind::array) continue;
      json.begin_array();
      while (json.next_item()) {
        const std::size_t start = json.position();
        PartFields part;
        if (!read_part(json, part)) break;
        part.source = json.since(start);
        add_part(part);
      }
    }
  }

  struct PartFields {
    Text text, signature;
    bool has_text = false, thought = false;
    JsonSlice call, source;
    std::string_view other;
  };

  static bool read_part(JsonReader& json, PartFields& part) {
    std::string_view key;
    if (!json.begin_object()) return false;
    while (json.next_key(key)) {
      if (key == "text" && json.kind() == JsonKind::string) {
        part.has_text = json.string(part.text);
      } else if (key == "thought" && json.kind() == JsonKind::boolean) {
        json.boolean(part.thought);
      } else if (key == "thoughtSignature") {
        json.maybe_string(part.signature);
      } else if (key == "functionCall" && json.kind() == JsonKind::object) {
        json.object(part.call);
      } else if (key != "videoMetadata" && key != "mediaResolution" && key != "partMetadata") {
        part.other = key == "inlineData"            ? "inlineData"
                     : key == "executableCode"      ? "executableCode"
                     : key == "codeExecutionResult" ? "codeExecutionResult"
                                                    : "part";
      }
    }
    return !json.failed();
  }

  void add_part(const PartFields& part) {
    if (!part.call.empty()) return add_call(part);
    if (!part.other.empty()) {
      close();
      open(PartStart{
          .kind = PartKind::raw, .owner = kFormat, .raw_type = part.other, .raw = part.source});
      close();
      return;
    }
    if (part.thought) {
      if (!part.text.empty()) {
        if (!open_ || kind_ != PartKind::thinking) open(PartStart{.kind = PartKind::thinking});
        sink_->on_event(PartDelta{index_, part.text});
      }
      if (!part.signature.empty()) add_seal(part.signature);
      return;
    }
    if (open_ && kind_ == PartKind::thinking) {
      if (!part.signature.empty()) {
        add_seal(part.signature);
        if (!part.text.empty()) add_text(part.text);
        return;
      }
      if (part.text.empty()) return;
      close();
    }
    if (!part.text.empty()) add_text(part.text);
    if (!part.signature.empty()) add_seal(part.signature);
  }

  void add_text(Text text) {
    if (!open_ || kind_ != PartKind::text) open(PartStart{.kind = PartKind::text});
    sink_->on_event(PartDelta{index_, text});
  }

  // The signature goes to the open thoughts, or stands alone where it came.
  void add_seal(Text signature) {
    if (!open_ || kind_ != PartKind::thinking) open(PartStart{.kind = PartKind::thinking});
    sink_->on_event(PartSeal{index_, Seal{kFormat, signature, {}}});
    close();
  }

  void add_call(const PartFields& part) {
    Text name, id;
    JsonSlice args, partial;
    bool more = false;
    JsonReader json(part.call);
    std::string_view key;
    json.begin_object();
    while (json.next_key(key)) {
      if (key == "name") json.maybe_string(name);
      if (key == "id") json.maybe_string(id);
      if (key == "args" && json.kind() == JsonKind::object) json.object(args);
      if (key == "partialArgs" && json.kind() == JsonKind::array) json.value(partial);
      if (key == "willContinue" && json.kind() == JsonKind::boolean) json.boolean(more);
    }
    if (!assembling_) {
      if (!part.signature.empty()) add_seal(part.signature);
      const std::string made = id.empty() ? made_id("call_", seed_, calls_) : std::string();
      open(PartStart{.kind = PartKind::tool_call,
                     .call_id = id.empty() ? Text::plain(made) : id,
                     .name = name});
      ++calls_;
      if (more || !partial.empty()) assembling_.emplace();
    }
    if (!assembling_) {
      give_arguments(args);
      return;
    }
    give_pieces(partial);
    if (!more && !failed_) give_assembled();
  }

  void give_arguments(JsonSlice args) {
    std::string compact;
    if (args.empty()) {
      compact = "{}";
    } else {
      compact_to(args, compact);
    }
    sink_->on_event(PartDelta{index_, Text::plain(compact)});
    close();
  }

  void give_pieces(JsonSlice partial) {
    if (partial.empty()) return;
    JsonReader json(partial);
    json.begin_array();
    while (json.next_item()) {
      Text path;
      JsonSlice value;
      bool more = false;
      std::string_view key;
      if (!json.begin_object()) return;
      while (json.next_key(key)) {
        if (key == "jsonPath") {
          json.maybe_string(path);
        } else if (key == "willContinue" && json.kind() == JsonKind::boolean) {
          json.boolean(more);
        } else if (key == "nullValue") {
          json.skip();
          value = "null";
        } else if (key == "stringValue" || key == "numberValue" || key == "boolValue") {
          json.value(value);
        }
      }
      const std::string at = path.decode();
      if (!value.empty()) assembling_->set(at, value, at == unfinished_path_);
      if (assembling_->kept() > kMaxReply) {
        failed_ = true;
        sink_->on_event(too_interleaved());
        return;
      }
      unfinished_path_ = more ? at : std::string();
    }
  }

  void give_assembled() {
    if (!assembling_) return;
    std::string args;
    assembling_->write(args);
    assembling_.reset();
    unfinished_path_.clear();
    sink_->on_event(PartDelta{index_, Text::plain(args)});
    close();
  }

  void open(PartStart part) {
    give_assembled();
    close();
    part.index = index_ = next_++;
    kind_ = part.kind;
    open_ = true;
    sink_->on_event(part);
  }

  void close() {
    if (!open_) return;
    open_ = false;
    sink_->on_event(PartEnd{index_});
  }

  void finish() {
    give_assembled();
    close();
    Finish finish;
    finish.reason = word_.empty() ? FinishReason::stop : finish_of(word_);
    if (blocked_) finish.reason = FinishReason::content_filter;
    const bool natural =
        finish.reason == FinishReason::stop || finish.reason == FinishReason::other;
    if (natural && calls_ > 0) finish.reason = FinishReason::tool_calls;
    finish.word = word_;
    sink_->on_event(finish);
  }

  EventSink* sink_ = nullptr;
  bool started_ = false, failed_ = false, whole_ = false, blocked_ = false;
  std::string seed_;  // the response's id
  std::string word_;  // the finish reason; empty: not seen
  bool open_ = false;
  PartKind kind_ = PartKind::text;
  std::uint32_t index_ = 0, next_ = 0;
  std::uint64_t calls_ = 0;
  std::optional<PathTree> assembling_;
  std::string unfinished_path_;  // its string goes on in the next piece
};

}  // namespace

std::unique_ptr<ReplyDecoder> make_reply_decoder(const Translation&) {
  return std::make_unique<Decoder>();
}

}  // namespace llm_proxy::gemini_generate
