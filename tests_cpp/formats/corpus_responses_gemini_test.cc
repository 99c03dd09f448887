#include <gtest/gtest.h>

#include <iostream>

#include "support.h"

// Every recorded Responses and Gemini exchange through the codecs, against a slow reader that
// builds trees.
namespace llm_proxy {
namespace {

using test::Json;
using test::Record;

constexpr WireFormat kR = WireFormat::openai_responses, kG = WireFormat::gemini_generate;

std::vector<Record> records(WireFormat format) {
  std::vector<Record> all = test::corpus(std::string(name(format)));
  if (all.empty()) {
    EXPECT_FALSE(test::in_ci()) << "no corpus: set LLM_PROXY_CORPUS";
    std::cout << "left out: no " << name(format) << " records (LLM_PROXY_CORPUS)\n";
  }
  return all;
}

// What a reply says.
struct Facts {
  std::string text, thinking, order;  // order: t(ext), c(all), neighbours folded
  std::vector<std::pair<std::string, Json>> calls;
  std::string finish;
  std::int64_t input = 0, output = 0;
  bool good = false;

  void say(char kind, std::string& where, const Json& piece) {
    if (!piece.is_string() || piece.get<std::string>().empty()) return;
    where += piece.get<std::string>();
    if (kind == 't' && (order.empty() || order.back() != 't')) order += 't';
  }
  void call(const Json& name, Json arguments) {
    // A call that was cut or that the model got wrong travels as text under one key.
    if (arguments.is_object() && arguments.size() == 1 && arguments.contains("_raw_arguments")) {
      arguments = Json(arguments["_raw_arguments"]);
    }
    calls.emplace_back(name.is_string() ? name.get<std::string>() : "", arguments);
    order += 'c';
  }
};

Json parsed(const std::string& arguments) {
  if (arguments.empty()) return Json::object();
  Json json = Json::parse(arguments, nullptr, false);
  return json.is_discarded() ? Json(arguments) : json;
}

std::int64_t count(const Json& usage, const char* key) {
  return usage.contains(key) && usage[key].is_number() ? usage[key].get<std::int64_t>() : 0;
}

void responses_output(const Json& response, const Json& items, Facts& facts) {
  for (const Json& item : items) {
    const std::string type = item.value("type", "");
    if (type == "message") {
      for (const Json& part : item.value("content", Json::array())) {
        facts.say('t', facts.text, part.value("text", part.value("refusal", Json())));
      }
    } else if (type == "function_call") {
      facts.call(item["name"], parsed(item.value("arguments", "")));
    } else if (type == "custom_tool_call") {
      facts.call(item["name"], Json{{"input", item.value("input", "")}});
    } else if (type == "reasoning") {
      const bool summary = item.contains("summary") && !item["summary"].empty();
      for (const Json& part : item.value(summary ? "summary" : "content", Json::array())) {
        if (part.is_object()) facts.say('h', facts.thinking, part.value("text", Json()));
      }
    }
  }
  const std::string status = response.value("status", "");
  facts.good = status == "completed" || status == "incomplete";
  facts.finish = facts.calls.empty() ? "stop" : "call";
  if (status == "incomplete") {
    const bool filtered = response["incomplete_details"].is_object() &&
                          response["incomplete_details"].value("reason", "") == "content_filter";
    facts.finish = filtered ? "filter" : "length";
  }
  if (response.contains("usage") && response["usage"].is_object()) {
    facts.input = count(response["usage"], "input_tokens");
    facts.output = count(response["usage"], "output_tokens");
  }
}

Facts responses_facts(const std::string& body, bool stream) {
  Facts facts;
  if (!stream) {
    const Json response = Json::parse(body);
    responses_output(response, response.value("output", Json::array()), facts);
    return facts;
  }
  Json items = Json::array();
  for (const test::Frame& frame : test::frames_of(body)) {
    const Json event = Json::parse(frame.data, nullptr, false);
    if (!event.is_object()) continue;
    const std::string type = event.value("type", "");
    if (type == "response.output_item.done") items.push_back(event["item"]);
    if (type == "error") return facts;
    if (type == "response.completed" || type == "response.incomplete") {
      const Json& response = event["response"];
      responses_output(response, items.empty() ? response["output"] : items, facts);
    }
  }
  return facts;
}

void gemini_chunk(const Json& chunk, Facts& facts, bool& partial) {
  if (chunk.contains("error")) facts.good = false;
  if (chunk.contains("usageMetadata")) {
    const Json& usage = chunk["usageMetadata"];
    facts.input = count(usage, "promptTokenCount") + count(usage, "toolUsePromptTokenCount");
    facts.output = count(usage, "candidatesTokenCount") + count(usage, "thoughtsTokenCount");
  }
  if (chunk.contains("promptFeedback") && chunk["promptFeedback"].contains("blockReason"))
    facts.finish = "filter";
  if (!chunk.contains("candidates")) return;
  for (const Json& candidate : chunk["candidates"]) {
    if (candidate.value("index", 0) != 0) continue;
    const Json content = candidate.value("content", Json::object());
    for (const Json& part : content.value("parts", Json::array())) {
      if (part.contains("functionCall")) {
        const Json& call = part["functionCall"];
        partial |= call.contains("willContinue") || call.contains("partialArgs");
        facts.call(call.value("name", Json()), call.value("args", Json::object()));
      } else if (part.value("thought", false)) {
        facts.say('h', facts.thinking, part.value("text", Json()));
      } else {
        facts.say('t', facts.text, part.value("text", Json()));
      }
    }
    if (!candidate.contains("finishReason")) continue;
    const Json& word = candidate["finishReason"];
    facts.finish = word == "STOP" || word == 1                 ? "stop"
                   : word == "MAX_TOKENS"                      ? "length"
                   : word == "SAFETY" || word == "MODEL_ARMOR" ? "filter"
                                                               : "other";
  }
}

Facts gemini_facts(const std::string& body, bool stream, bool& partial) {
  Facts facts;
  facts.good = true;
  const Json whole = stream ? Json() : Json::parse(body);
  if (stream) {
    for (const test::Frame& frame : test::frames_of(body))
      gemini_chunk(Json::parse(frame.data), facts, partial);
  } else if (whole.is_array()) {
    for (const Json& chunk : whole) gemini_chunk(chunk, facts, partial);
  } else {
    gemini_chunk(whole, facts, partial);
  }
  if (!stream && facts.finish.empty()) facts.finish = "stop";
  if (facts.finish == "stop" && !facts.calls.empty()) facts.finish = "call";
  facts.good = facts.good && !facts.finish.empty();
  return facts;
}

struct Outcome {
  std::string out;
  bool failed = false;
};

// A reply of format `from` as a client of format `to` gets it.
Outcome translated(WireFormat from, WireFormat to, const std::string& body, bool stream_in,
                   bool stream_out) {
  static const Request request = [] {
    Request any;
    any.include_usage = true;
    return any;
  }();
  const Translation translation;
  const EncodeContext context{&request, &translation, 1'700'000'000, "seed"};
  auto encoder =
      stream_out ? format_of(to).stream_encoder(context) : format_of(to).whole_encoder(context);
  auto decoder = format_of(from).reply_decoder(translation);
  Outcome run;
  if (stream_in) {
    if (auto error = test::decode_stream(*decoder, body, *encoder)) {
      run.failed = true;
      encoder->on_event(*error);
    }
  } else if (Result<void> done = decoder->on_whole(body, *encoder); !done) {
    run.failed = true;
  }
  run.out = encoder->out();
  return run;
}

Facts facts_of(WireFormat format, const std::string& body, bool stream) {
  bool partial = false;
  return format == kR ? responses_facts(body, stream) : gemini_facts(body, stream, partial);
}

std::string without_gaps(std::string text) {
  std::erase_if(text, [](char c) { return c == '\n' || c == ' '; });
  return text;
}

void expect_same(const std::string& id, const Facts& want, const Facts& got, bool finish_too) {
  ASSERT_TRUE(got.good) << id;
  EXPECT_EQ(without_gaps(got.text), without_gaps(want.text)) << id;
  EXPECT_EQ(without_gaps(got.thinking), without_gaps(want.thinking)) << id;
  EXPECT_EQ(got.calls, want.calls) << id;
  EXPECT_EQ(got.order, want.order) << id;
  EXPECT_EQ(got.input, want.input) << id;
  EXPECT_EQ(got.output, want.output) << id;
  if (finish_too && want.finish != "other") {
    EXPECT_EQ(got.finish, want.finish) << id;
  }
}

bool usable(const Record& record) {
  if (record.status() != 200) return false;
  const std::string body = record.response();
  return !body.empty() && (record.is_stream() || body[0] == '{' || body[0] == '[');
}

class EveryReply : public testing::TestWithParam<WireFormat> {};

TEST_P(EveryReply, says_the_same_directly_and_by_way_of_every_other_format) {
  const WireFormat from = GetParam();
  int count = 0;
  for (const Record& record : records(from)) {
    if (!usable(record)) continue;
    const std::string body = record.response();
    bool partial = false;
    const Facts want = from == kR ? responses_facts(body, record.is_stream())
                                  : gemini_facts(body, record.is_stream(), partial);
    if (!want.good || partial) continue;
    const WireFormat other = from == kR ? kG : kR;
    for (const bool stream : {true, false}) {
      const Outcome run = translated(from, other, body, record.is_stream(), stream);
      ASSERT_FALSE(run.failed) << record.id;
      expect_same(record.id, want, facts_of(other, run.out, stream), true);
    }
    for (const WireFormat by : {WireFormat::openai_chat, WireFormat::anthropic_messages, from}) {
      const Outcome there = translated(from, by, body, record.is_stream(), true);
      const Outcome back = translated(by, from, there.out, true, true);
      ASSERT_FALSE(there.failed || back.failed) << record.id << " by " << name(by);
      Facts got = facts_of(from, back.out, true);
      // Chat has one text and puts the calls behind it.
      if (by == WireFormat::openai_chat) got.order = want.order;
      expect_same(record.id + " by " + std::string(name(by)), want, got, true);
    }
    ++count;
  }
  std::cout << count << " replies of " << name(from) << "\n";
}

TEST_P(EveryReply, cut_in_the_middle_never_ends_well) {
  const WireFormat from = GetParam();
  for (const Record& record : records(from)) {
    if (!usable(record) || !record.is_stream() || !facts_of(from, record.response(), true).good)
      continue;
    std::string cut = record.response();
    cut.resize(cut.size() * 6 / 10);
    const std::size_t last = cut.rfind("\ndata:");
    if (last == std::string::npos || cut.find("finishReason") != std::string::npos) continue;
    cut.resize(last + 1);
    for (const WireFormat to : {kR, kG, WireFormat::openai_chat, WireFormat::anthropic_messages}) {
      const Outcome run = translated(from, to, cut, true, true);
      EXPECT_TRUE(run.failed) << record.id;
      for (const std::string_view end :
           {"response.completed", "finishReason", "[DONE]", "message_stop"}) {
        EXPECT_EQ(run.out.find(end), std::string::npos) << record.id;
      }
    }
  }
}

TEST_P(EveryReply, is_observed_as_it_is_decoded) {
  const WireFormat from = GetParam();
  for (const Record& record : records(from)) {
    if (!usable(record)) continue;
    const Facts want = facts_of(from, record.response(), record.is_stream());
    if (!want.good) continue;
    auto observer = format_of(from).observer();
    if (record.is_stream()) {
      for (const test::Frame& frame : test::frames_of(record.response()))
        observer->on_stream_event(frame.event, frame.data);
    } else {
      observer->on_whole(record.response());
    }
    EXPECT_TRUE(observer->terminated()) << record.id;
    EXPECT_FALSE(observer->error()) << record.id;
    EXPECT_EQ(observer->usage().input.value_or(0), want.input) << record.id;
    EXPECT_EQ(observer->usage().output.value_or(0), want.output) << record.id;
  }
}

TEST_P(EveryReply, answers_a_request_that_round_trips_in_its_own_format) {
  const WireFormat format = GetParam();
  int count = 0;
  for (const Record& record : records(format)) {
    const std::string body = record.request_body();
    if (body.empty() || record.status() >= 400) continue;
    Result<Request> request = format_of(format).decode_request(body, "path-model", false);
    ASSERT_TRUE(request) << record.id << ": " << request.error().message;
    Translation translation;
    translation.upstream_model = request->model.decode();
    std::string out;
    ASSERT_TRUE(format_of(format).encode_request(*request, translation, out)) << record.id;
    Json want = Json::parse(body);
    if (format == kG) {  // its model is in the path
      want.erase("model");
      Json kept = Json::object();
      for (const auto& [key, value] : want.items()) {
        if (!value.is_null()) kept[key] = value;
      }
      want = kept;
    }
    EXPECT_EQ(Json::parse(out).dump(), want.dump()) << record.id;
    for (const WireFormat to : {kR, kG, WireFormat::openai_chat, WireFormat::anthropic_messages}) {
      Translation other;
      other.upstream_model = "m";
      std::string sent;
      Result<void> done = format_of(to).encode_request(*request, other, sent);
      if (!done) {
        const bool refused =
            done.error().kind == ErrorKind::unsupported || done.error().param == "conversation";
        EXPECT_TRUE(refused) << record.id << ": " << done.error().message;
      } else {
        EXPECT_TRUE(Json::accept(sent)) << record.id << " to " << name(to);
      }
    }
    ++count;
  }
  std::cout << count << " requests of " << name(format) << "\n";
}

INSTANTIATE_TEST_SUITE_P(Corpus, EveryReply, testing::Values(kR, kG), [](const auto& each) {
  return each.param == kR ? "openai_responses" : "gemini_generate";
});

}  // namespace
}  // namespace llm_proxy
