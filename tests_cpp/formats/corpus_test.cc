#include <gtest/gtest.h>

#include <iostream>
#include <map>

#include "json/reader.h"
#include "support.h"

namespace llm_proxy {
namespace {

using test::Json;
using test::Record;

// What a reply says, read from its JSON by a slow reader that shares nothing with the codecs.
struct Facts {
  std::string text, thinking, refusal;
  std::vector<std::pair<std::string, Json>> calls;
  std::string finish;
  std::int64_t input = 0, output = 0, total = 0, cached = 0;
  bool ended = false, error = false;
};

Json arguments_of(const std::string& text) {
  if (text.find_first_not_of(" \n\t") == std::string::npos) return Json::object();
  Json parsed = Json::parse(text, nullptr, false);
  return parsed.is_discarded() ? Json{{"_raw_arguments", text}} : parsed;
}

std::string string_at(const Json& object, const char* key) {
  return object.is_object() && object.contains(key) && object[key].is_string()
             ? object[key].get<std::string>()
             : "";
}
std::int64_t count_at(const Json& object, const char* key) {
  return object.is_object() && object.contains(key) && object[key].is_number()
             ? object[key].get<std::int64_t>()
             : 0;
}

void chat_usage(const Json& usage, Facts& facts) {
  if (!usage.is_object()) return;
  facts.input = count_at(usage, "prompt_tokens");
  facts.output = count_at(usage, "completion_tokens");
  facts.total = count_at(usage, "total_tokens");
  facts.cached = count_at(usage.value("prompt_tokens_details", Json()), "cached_tokens");
}

struct ChatCall {
  Json index, id;
  std::string name, arguments;
};

void chat_message(const Json& message, Facts& facts, std::vector<ChatCall>& calls) {
  if (!message.is_object()) return;
  std::string thinking = string_at(message, "reasoning_content");
  if (thinking.empty()) thinking = string_at(message, "reasoning");
  if (thinking.empty() && message.contains("reasoning_details") &&
      message["reasoning_details"].is_array()) {
    for (const Json& detail : message["reasoning_details"]) {
      const std::string text = string_at(detail, "text");
      thinking += text.empty() ? string_at(detail, "summary") : text;
    }
  }
  facts.thinking += thinking;
  facts.text += string_at(message, "content");
  if (message.contains("content") && message["content"].is_array()) {
    for (const Json& part : message["content"]) {
      facts.text += string_at(part, "text");
      if (!part.contains("thinking")) continue;
      if (part["thinking"].is_string())
        facts.thinking += part["thinking"].get<std::string>();
      else
        for (const Json& item : part["thinking"]) facts.thinking += string_at(item, "text");
    }
  }
  facts.refusal += string_at(message, "refusal");
  if (message.contains("function_call") && message["function_call"].is_object()) {
    if (calls.empty()) calls.push_back({});
    calls.back().name += string_at(message["function_call"], "name");
    calls.back().arguments += string_at(message["function_call"], "arguments");
  }
  if (!message.contains("tool_calls") || !message["tool_calls"].is_array()) return;
  for (const Json& entry : message["tool_calls"]) {
    const Json index = entry.contains("index") ? entry["index"] : Json();
    const std::string id = string_at(entry, "id");
    const Json key = index.is_null() ? Json(id) : index;
    ChatCall* found = nullptr;
    for (ChatCall& call : calls) {
      if (call.index == key) found = &call;
    }
    if (found == nullptr ||
        (!id.empty() && !string_at(Json{{"id", found->id}}, "id").empty() && found->id != id)) {
      calls.push_back({key, id, "", ""});
      found = &calls.back();
    }
    const Json function = entry.value("function", entry.value("custom", Json::object()));
    if (found->name.empty()) found->name = string_at(function, "name");
    if (function.contains("arguments") && function["arguments"].is_object()) {
      found->arguments += function["arguments"].dump();
    } else {
      found->arguments += string_at(function, "arguments");
      found->arguments += string_at(function, "input");
    }
  }
}

Facts chat_facts(std::string_view body, bool stream) {
  Facts facts;
  std::vector<ChatCall> calls;
  const auto take = [&](const Json& chunk, const char* key) {
    if (chunk.contains("error") && !chunk["error"].is_null()) facts.error = true;
    if (chunk.contains("usage")) chat_usage(chunk["usage"], facts);
    if (chunk.contains("x_groq") && chunk["x_groq"].contains("usage"))
      chat_usage(chunk["x_groq"]["usage"], facts);
    if (!chunk.contains("choices") || !chunk["choices"].is_array()) return;
    for (const Json& choice : chunk["choices"]) {
      if (count_at(choice, "index") != 0) continue;
      const std::string word = string_at(choice, "finish_reason");
      if (!word.empty()) facts.finish = word;
      if (choice.contains(key)) chat_message(choice[key], facts, calls);
    }
  };
  if (stream) {
    for (const test::Frame& frame : test::frames_of(body)) {
      if (frame.data == "[DONE]") {
        facts.ended = true;
        continue;
      }
      const Json chunk = Json::parse(frame.data);
      if (frame.event == "error") facts.error = true;
      take(chunk, "delta");
    }
    facts.ended |= !facts.finish.empty();
  } else {
    take(Json::parse(body), "message");
    facts.ended = true;
  }
  for (const ChatCall& call : calls)
    facts.calls.emplace_back(call.name, arguments_of(call.arguments));
  return facts;
}

void messages_usage(const Json& usage, std::map<std::string, std::int64_t>& counts) {
  if (!usage.is_object()) return;
  for (const auto& [key, value] : usage.items()) {
    if (value.is_number_integer()) counts[key] = value.get<std::int64_t>();
  }
}

Facts messages_facts(std::string_view body, bool stream) {
  Facts facts;
  std::map<std::string, std::int64_t> counts;
  const auto block_of = [&](const Json& block) {
    const std::string type = string_at(block, "type");
    if (type == "text") facts.text += string_at(block, "text");
    if (type == "thinking") facts.thinking += string_at(block, "thinking");
    if (type == "tool_use")
      facts.calls.emplace_back(string_at(block, "name"), block.value("input", Json::object()));
  };
  if (!stream) {
    const Json message = Json::parse(body);
    if (string_at(message, "type") == "error") facts.error = true;
    for (const Json& block : message.value("content", Json::array())) block_of(block);
    messages_usage(message.value("usage", Json()), counts);
    facts.finish = string_at(message, "stop_reason");
    facts.ended = true;
  } else {
    std::string pieces;
    Json open;
    for (const test::Frame& frame : test::frames_of(body)) {
      const Json data = Json::parse(frame.data);
      const std::string type = string_at(data, "type");
      EXPECT_EQ(type, frame.event);
      // A message that was cut by its limit may leave its last block open.
      const bool ends = type == "message_start" || type == "message_stop";
      if ((ends || type == "content_block_stop") && !open.is_null()) {
        if (!pieces.empty()) open["input"] = arguments_of(pieces);
        block_of(open);
        open = Json();
      }
      if (type == "message_start") messages_usage(data["message"].value("usage", Json()), counts);
      if (type == "content_block_start") {
        open = data["content_block"];
        pieces.clear();
      }
      if (type == "content_block_delta") {
        const Json& delta = data["delta"];
        if (delta.contains("text"))
          open["text"] = string_at(open, "text") + string_at(delta, "text");
        if (delta.contains("thinking"))
          open["thinking"] = string_at(open, "thinking") + string_at(delta, "thinking");
        pieces += string_at(delta, "partial_json");
      }
      if (type == "message_delta") {
        facts.finish = string_at(data["delta"], "stop_reason");
        messages_usage(data.value("usage", Json()), counts);
      }
      if (type == "message_stop") facts.ended = true;
      if (type == "error") facts.error = true;
    }
  }
  facts.input = counts["input_tokens"] + counts["cache_read_input_tokens"] +
                counts["cache_creation_input_tokens"];
  facts.output = counts["output_tokens"];
  return facts;
}

struct Translated {
  std::string out;
  std::optional<Error> error;
};

Translated translate(const Format& from, const Format& to, const std::string& body, bool stream_in,
                     bool stream_out) {
  Translation translation;
  Request request;
  request.include_usage = true;
  EncodeContext context{&request, &translation, 1'700'000'000, "seed"};
  auto decoder = from.reply_decoder(translation);
  auto encoder = stream_out ? to.stream_encoder(context) : to.whole_encoder(context);
  Translated run;
  if (stream_in) {
    run.error = test::decode_stream(*decoder, body, *encoder);
  } else if (Result<void> whole = decoder->on_whole(body, *encoder); !whole) {
    run.error = whole.error();
  }
  run.out = encoder->out();
  return run;
}

std::string finish_class(const std::string& word, bool has_calls) {
  if (word == "length" || word == "max_tokens" || word == "model_context_window_exceeded")
    return "length";
  if (word == "content_filter" || word == "refusal") return "filter";
  return has_calls ? "tool" : "stop";
}

std::vector<Record> records_or_skip(const std::string& format) {
  std::vector<Record> records = test::corpus(format);
  if (records.empty()) {
    EXPECT_FALSE(test::in_ci()) << "LLM_PROXY_CORPUS names no corpus";
    std::cout << "no corpus: the recorded " << format << " exchanges were left out\n";
  }
  return records;
}

void expect_same_facts(const Record& record, const Facts& want, const Facts& got,
                       bool chat_source) {
  EXPECT_EQ(got.text + got.refusal, want.text + want.refusal) << record.id;
  EXPECT_EQ(got.thinking, want.thinking) << record.id;
  ASSERT_EQ(got.calls.size(), want.calls.size()) << record.id;
  for (std::size_t i = 0; i < want.calls.size(); ++i) {
    EXPECT_EQ(got.calls[i].first, want.calls[i].first) << record.id;
    EXPECT_EQ(got.calls[i].second, want.calls[i].second) << record.id;
  }
  EXPECT_EQ(finish_class(got.finish, !got.calls.empty()),
            finish_class(want.finish, !want.calls.empty()))
      << record.id << " " << want.finish << " → " << got.finish;
  // Some servers count more cached tokens than read ones: Anthropic's uncached rest is then 0.
  EXPECT_EQ(got.input,
            std::max(want.input, chat_source && got.input > want.input ? want.cached : 0))
      << record.id;
  const std::int64_t output =
      chat_source ? std::max(want.output, want.total - want.input) : want.output;
  EXPECT_EQ(got.output, output) << record.id;
}

// Every recorded good reply of `from`, translated to `to` both ways, says what it said.
void check_replies(WireFormat from, WireFormat to) {
  const bool chat = from == WireFormat::openai_chat;
  int translated = 0;
  for (const Record& record : records_or_skip(std::string(name(from)))) {
    if (record.status() != 200) continue;
    const std::string body = record.response();
    const bool stream = record.is_stream();
    Facts want;
    try {
      want = chat ? chat_facts(body, stream) : messages_facts(body, stream);
    } catch (const std::exception&) {
      EXPECT_TRUE(translate(format_of(from), format_of(to), body, stream, stream).error)
          << record.id;
      continue;
    }
    for (const bool stream_out : {false, true}) {
      const Translated run = translate(format_of(from), format_of(to), body, stream, stream_out);
      if (want.error) continue;
      if (!want.ended || (chat && !stream && want.finish.empty())) {
        EXPECT_TRUE(run.error || !stream) << record.id;
        continue;
      }
      ASSERT_FALSE(run.error) << record.id << ": " << run.error->message;
      ++translated;
      const Facts got = to == WireFormat::openai_chat ? chat_facts(run.out, stream_out)
                                                      : messages_facts(run.out, stream_out);
      expect_same_facts(record, want, got, chat);
    }
  }
  std::cout << translated << " replies translated\n";
}

TEST(Corpus, chat_replies_say_the_same_as_messages) {
  check_replies(WireFormat::openai_chat, WireFormat::anthropic_messages);
}
TEST(Corpus, messages_replies_say_the_same_as_chat) {
  check_replies(WireFormat::anthropic_messages, WireFormat::openai_chat);
}

// Chat → Messages → Chat: nothing a chat client sees is lost on the way.
TEST(Corpus, chat_replies_survive_the_way_to_messages_and_back) {
  for (const Record& record : records_or_skip("openai-chat")) {
    if (record.status() != 200) continue;
    Facts want;
    try {
      want = chat_facts(record.response(), record.is_stream());
    } catch (const std::exception&) {
      continue;
    }
    if (want.error || !want.ended || want.finish.empty()) continue;
    const Translated there =
        translate(format_of(WireFormat::openai_chat), format_of(WireFormat::anthropic_messages),
                  record.response(), record.is_stream(), true);
    const Translated back = translate(format_of(WireFormat::anthropic_messages),
                                      format_of(WireFormat::openai_chat), there.out, true, true);
    ASSERT_FALSE(back.error) << record.id;
    expect_same_facts(record, want, chat_facts(back.out, true), true);
  }
}

// Cut at 60 %, and in order but without its end: an error, and no terminator.
TEST(Corpus, a_broken_stream_never_ends_well) {
  for (const WireFormat from : {WireFormat::openai_chat, WireFormat::anthropic_messages}) {
    const WireFormat to =
        from == WireFormat::openai_chat ? WireFormat::anthropic_messages : WireFormat::openai_chat;
    for (const Record& record : records_or_skip(std::string(name(from)))) {
      if (!record.is_stream() || record.status() != 200) continue;
      const std::string whole = record.response();
      std::string cut = whole.substr(0, whole.size() * 6 / 10);
      cut.resize(cut.rfind("\n\n") == std::string::npos ? 0 : cut.rfind("\n\n") + 2);
      if (cut.find("\"finish_reason\":\"") != std::string::npos ||
          cut.find("message_stop") != std::string::npos)
        continue;
      if (cut.find("\"finish_reason\": \"") != std::string::npos) continue;
      const Translated run = translate(format_of(from), format_of(to), cut, true, true);
      const bool said = run.out.find("event: error") != std::string::npos ||
                        run.out.find("{\"error\":") != std::string::npos;
      EXPECT_TRUE(run.error || said) << record.id;
      EXPECT_EQ(run.out.find("message_stop"), std::string::npos) << record.id;
      EXPECT_EQ(run.out.find("[DONE]"), std::string::npos) << record.id;
    }
  }
}

// The same format: every member returns as it stood, keys in their order.
TEST(Corpus, requests_round_trip_in_their_own_format) {
  for (const WireFormat format : {WireFormat::openai_chat, WireFormat::anthropic_messages}) {
    int count = 0;
    for (const Record& record : records_or_skip(std::string(name(format)))) {
      const std::string body = record.request_body();
      if (body.empty() || record.status() >= 400) continue;
      Result<Request> request = format_of(format).decode_request(body, {}, false);
      ASSERT_TRUE(request) << record.id << ": " << request.error().message;
      Translation translation;
      translation.upstream_model = request->model.decode();
      std::string out;
      ASSERT_TRUE(format_of(format).encode_request(*request, translation, out)) << record.id;
      EXPECT_EQ(Json::parse(out).dump(), Json::parse(body).dump()) << record.id;
      ++count;
    }
    std::cout << count << " requests of " << name(format) << "\n";
  }
}

// A request the slow reader understands: roles with their texts, calls, results, tools.
struct RequestFacts {
  std::string system;
  std::string turns;  // one line a call or result, texts joined
  std::vector<std::string> tools;
};

void text_of(const Json& content, std::string& out) {
  if (content.is_string()) out += content.get<std::string>();
  if (!content.is_array()) return;
  for (const Json& part : content)
    out += part.is_string() ? part.get<std::string>() : string_at(part, "text");
}

RequestFacts chat_request_facts(const Json& body) {
  RequestFacts facts;
  bool leading = true;
  for (const Json& message : body.value("messages", Json::array())) {
    const std::string role = string_at(message, "role");
    std::string text;
    text_of(message.value("content", Json()), text);
    if ((role == "system" || role == "developer") && leading) {
      facts.system += text;
      continue;
    }
    leading = false;
    if (role == "tool")
      facts.turns += "result " + string_at(message, "tool_call_id") + " " + text + "\n";
    else
      facts.turns += text;
    if (message.contains("tool_calls") && message["tool_calls"].is_array()) {
      for (const Json& call : message["tool_calls"]) {
        const Json function = call.value("function", Json::object());
        facts.turns += "call " + string_at(call, "id") + " " + string_at(function, "name") + " " +
                       arguments_of(string_at(function, "arguments")).dump() + "\n";
      }
    }
  }
  for (const Json& tool : body.value("tools", Json::array())) {
    facts.tools.push_back(string_at(tool.value("function", Json::object()), "name"));
  }
  for (const Json& function : body.value("functions", Json::array())) {
    facts.tools.push_back(string_at(function, "name"));
  }
  return facts;
}

RequestFacts messages_request_facts(const Json& body) {
  RequestFacts facts;
  text_of(body.value("system", Json()), facts.system);
  for (const Json& message : body.value("messages", Json::array())) {
    const Json content = message.value("content", Json());
    if (content.is_string()) facts.turns += content.get<std::string>();
    if (!content.is_array()) continue;
    for (const Json& block : content) {
      const std::string type = string_at(block, "type");
      if (type == "text") facts.turns += string_at(block, "text");
      if (type == "tool_use")
        facts.turns += "call " + string_at(block, "id") + " " + string_at(block, "name") + " " +
                       block["input"].dump() + "\n";
      if (type == "tool_result") {
        std::string text;
        text_of(block.value("content", Json()), text);
        facts.turns += "result " + string_at(block, "tool_use_id") + " " + text + "\n";
      }
    }
  }
  for (const Json& tool : body.value("tools", Json::array()))
    facts.tools.push_back(string_at(tool, "name"));
  return facts;
}

std::string without_space(std::string text) {
  std::erase_if(text, [](unsigned char c) { return c <= ' '; });
  return text;
}

TEST(Corpus, chat_requests_say_the_same_as_messages) {
  std::map<std::string, int> refused;
  int count = 0;
  for (const Record& record : records_or_skip("openai-chat")) {
    const std::string body = record.request_body();
    if (body.empty() || record.status() >= 400) continue;
    Result<Request> request = format_of(WireFormat::openai_chat).decode_request(body, {}, false);
    ASSERT_TRUE(request) << record.id;
    Translation translation;
    translation.upstream_model = "claude-sonnet-4-5";
    std::string out;
    if (Result<void> encoded =
            format_of(WireFormat::anthropic_messages).encode_request(*request, translation, out);
        !encoded) {
      ++refused[encoded.error().param];
      continue;
    }
    ++count;
    const Json source = Json::parse(body);
    const RequestFacts want = chat_request_facts(source);
    const RequestFacts got = messages_request_facts(Json::parse(out));
    EXPECT_EQ(without_space(got.system), without_space(want.system)) << record.id;
    bool plain = true;  // neither system text in mid conversation, nor legacy functions, nor ids
                        // that must change
    for (const Json& message : source["messages"]) {
      const std::string role = string_at(message, "role");
      plain &= role != "function" && !message.contains("function_call") &&
               string_at(message, "refusal").empty();
    }
    if (out.find("<system>") != std::string::npos ||
        out.find("_raw_arguments") != std::string::npos)
      plain = false;
    if (plain && out.find("toolu_") == std::string::npos) {
      EXPECT_EQ(without_space(got.turns), without_space(want.turns)) << record.id;
    }
    EXPECT_EQ(got.tools, want.tools) << record.id;
    Result<Request> again =
        format_of(WireFormat::anthropic_messages).decode_request(out, {}, false);
    EXPECT_TRUE(again) << record.id << ": " << again.error().message;
  }
  std::cout << count << " requests translated; refused";
  for (const auto& [field, times] : refused) std::cout << " " << field << "×" << times;
  std::cout << "\n";
}

TEST(Corpus, messages_requests_say_the_same_as_chat) {
  std::map<std::string, int> refused;
  int count = 0;
  for (const Record& record : records_or_skip("anthropic-messages")) {
    const std::string body = record.request_body();
    if (body.empty() || record.status() >= 400) continue;
    Result<Request> request =
        format_of(WireFormat::anthropic_messages).decode_request(body, {}, false);
    ASSERT_TRUE(request) << record.id << ": " << request.error().message;
    Translation translation;
    std::string out;
    if (Result<void> encoded =
            format_of(WireFormat::openai_chat).encode_request(*request, translation, out);
        !encoded) {
      ++refused[encoded.error().param];
      continue;
    }
    ++count;
    const Json source = Json::parse(body);
    const RequestFacts want = messages_request_facts(source);
    const RequestFacts got = chat_request_facts(Json::parse(out));
    const auto bag = [](std::string text) {
      text = without_space(std::move(text));
      std::sort(text.begin(), text.end());
      return text;
    };
    const bool special = body.find("\"tool_reference\"") != std::string::npos ||
                         body.find("\"role\":\"system\"") != std::string::npos ||
                         body.find("\"document\"") != std::string::npos ||
                         body.find("search_result") != std::string::npos ||
                         out.find("See the next message.") != std::string::npos ||
                         body.find("defer_loading") != std::string::npos;
    if (!special) {
      EXPECT_EQ(without_space(got.system), without_space(want.system)) << record.id;
      EXPECT_EQ(bag(got.turns), bag(want.turns)) << record.id;
      EXPECT_EQ(got.tools, want.tools) << record.id;
    }
    Result<Request> again = format_of(WireFormat::openai_chat).decode_request(out, {}, false);
    EXPECT_TRUE(again) << record.id << ": " << again.error().message;
  }
  std::cout << count << " requests translated; refused";
  for (const auto& [field, times] : refused) std::cout << " " << field << "×" << times;
  std::cout << "\n";
}

// The observer of the raw path sees the same usage, finish and end as the decoder.
TEST(Corpus, observers_agree_with_decoders) {
  struct Last : EventSink {
    void on_event(const Event& event) override {
      if (const auto* update = std::get_if<UsageUpdate>(&event)) usage = update->usage;
      if (const auto* finish = std::get_if<Finish>(&event)) word = finish->word, finished = true;
      if (std::holds_alternative<Error>(event)) error = true;
    }
    Usage usage;
    std::string word;
    bool finished = false, error = false;
  };
  for (const WireFormat format : {WireFormat::openai_chat, WireFormat::anthropic_messages}) {
    for (const Record& record : records_or_skip(std::string(name(format)))) {
      if (record.status() != 200 || !record.is_stream()) continue;
      Last last;
      auto decoder = format_of(format).reply_decoder(Translation{});
      auto observer = format_of(format).observer();
      const auto failed = test::decode_stream(*decoder, record.response(), last);
      for (const test::Frame& frame : test::frames_of(record.response())) {
        observer->on_stream_event(frame.event, frame.data);
      }
      EXPECT_EQ(observer->terminated(), last.finished)
          << record.id << (failed ? failed->message : "");
      EXPECT_EQ(observer->error().has_value(), last.error) << record.id;
      if (!last.finished) continue;
      EXPECT_EQ(observer->finish_word(), last.word) << record.id;
      EXPECT_EQ(observer->usage().input, last.usage.input) << record.id;
      EXPECT_EQ(observer->usage().output, last.usage.output) << record.id;
    }
  }
}

}  // namespace
}  // namespace llm_proxy
