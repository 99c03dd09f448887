// A fifth format: what it takes to add one is a folder with a Format in it, a value of WireFormat
// and a row in the catalog. Here is a toy format of which nothing outside this file knows, and the
// parts of the engine that take a Format do with it what they do with the four.

#include <gtest/gtest.h>

#include <array>

#include "config/endpoints.h"
#include "formats/anthropic_messages/format.h"
#include "formats/openai_chat/format.h"
#include "json/reader.h"
#include "json/writer.h"

namespace llm_proxy {
namespace {

constexpr auto kToyFormat = static_cast<WireFormat>(kWireFormatCount);

// A request: {"model": "m", "ask": "text"}.
Result<Request> decode_request(std::string_view body, std::string_view, bool) {
  if (!is_json_object(body)) return Error{ErrorKind::malformed_request, "no object"};
  Request request;
  request.format = kToyFormat;
  request.model = string_member(body, "model");
  request.messages.emplace_back().parts.push_back(TextPart{string_member(body, "ask")});
  return request;
}

Result<void> encode_request(const Request& request, Translation& translation, std::string& out) {
  std::string asked;
  for (const Message& message : request.messages) {
    for (const Part& part : message.parts) {
      if (const auto* text = std::get_if<TextPart>(&part)) text->text.decode_to(asked);
    }
  }
  JsonWriter json(out);
  json.begin_object().member("model", std::string_view(translation.upstream_model));
  json.member("ask", asked).end_object();
  return {};
}

// A reply, or one event of a stream: {"said": "text"}; the last has {"done": true} too.
class Decoder final : public ReplyDecoder {
 public:
  Result<void> on_whole(std::string_view body, EventSink& sink) override {
    if (auto read = on_stream_event({}, body, sink); !read) return read;
    return on_stream_end(sink);
  }
  Result<void> on_stream_event(std::string_view, std::string_view data, EventSink& sink) override {
    if (!is_json_object(data)) return Error{ErrorKind::upstream_garbled, "no object"};
    if (!begun_) sink.on_event(ReplyStart{.model = Text::plain("toy")});
    if (!begun_) sink.on_event(PartStart{});
    begun_ = true;
    sink.on_event(PartDelta{0, string_member(data, "said")});
    done_ = done_ || member(data, "done") == "true";
    return {};
  }
  Result<void> on_stream_end(EventSink& sink) override {
    if (!done_) return Error{ErrorKind::upstream_cut, "cut"};
    sink.on_event(PartEnd{});
    sink.on_event(Finish{});
    return {};
  }

 private:
  bool begun_ = false, done_ = false;
};

class Encoder final : public ReplyEncoder {
 public:
  void keep_alive() override { out_ += "\n"; }
  void on_event(const Event& event) override {
    if (const auto* delta = std::get_if<PartDelta>(&event)) {
      JsonWriter(out_).begin_object().member("said", delta->text).end_object();
      out_ += '\n';
    }
    if (std::holds_alternative<Finish>(event)) out_ += "{\"done\":true}\n";
  }
};

class Observer final : public ReplyObserver {
 public:
  void on_stream_event(std::string_view, std::string_view data) override {
    meaningful_ = true;
    terminated_ = terminated_ || member(data, "done") == "true";
  }
  void on_whole(std::string_view body) override { on_stream_event({}, body); }
};

void encode_error(const Error& error, std::string& out) {
  JsonWriter(out).begin_object().member("wrong", std::string_view(error.message)).end_object();
}

constexpr std::array kClientPaths{ClientPath{"/toy/ask"}, ClientPath{"/toy/list", Asked::models}};

constinit const Format kToy{
    .id = kToyFormat,
    .decode_request = decode_request,
    .encode_request = encode_request,
    .reply_decoder = [](const Translation&) -> std::unique_ptr<ReplyDecoder> {
      return std::make_unique<Decoder>();
    },
    .stream_encoder = [](const EncodeContext&) -> std::unique_ptr<ReplyEncoder> {
      return std::make_unique<Encoder>();
    },
    .whole_encoder = [](const EncodeContext&) -> std::unique_ptr<ReplyEncoder> {
      return std::make_unique<Encoder>();
    },
    .observer = []() -> std::unique_ptr<ReplyObserver> { return std::make_unique<Observer>(); },
    .encode_error = encode_error,
    .encode_stream_error = encode_error,
    .decode_error =
        [](int status, std::string_view body) {
          return Error{kind_of_status(status), string_member(body, "wrong").decode()};
        },
    .client_paths = kClientPaths,
    .upstream = {.version = "/v9",
                 .generate = "/{model}/ask",
                 .stream = "/{model}/ask-slowly",
                 .list = "/list?all=1"},
};

// What a client of `client` hears when a provider of `upstream` says `data`, event by event.
std::string heard(const Format& upstream, const Format& client, std::string_view request,
                  std::initializer_list<std::string_view> data) {
  const Result<Request> decoded = client.decode_request(request, {}, false);
  EXPECT_TRUE(decoded);
  Translation translation;
  std::string asked;
  EXPECT_TRUE(upstream.encode_request(*decoded, translation, asked));
  const EncodeContext context{&*decoded, &translation, 7, "seed"};
  const auto encoder = client.stream_encoder(context);
  const auto decoder = upstream.reply_decoder(translation);
  for (const std::string_view each : data) {
    EXPECT_TRUE(decoder->on_stream_event({}, each, *encoder));
  }
  EXPECT_TRUE(decoder->on_stream_end(*encoder));
  return encoder->out();
}

constexpr std::string_view kChatRequest =
    R"({"model":"m","messages":[{"role":"user","content":"zażółć?"}]})";

TEST(FifthFormat, is_translated_to_and_from_the_others) {
  const auto asked = [](const Format& client, const Format& upstream, std::string_view body) {
    const auto request = client.decode_request(body, {}, false);
    Translation translation;
    translation.upstream_model = "there";
    std::string out;
    EXPECT_TRUE(request && upstream.encode_request(*request, translation, out));
    return out;
  };
  EXPECT_EQ(asked(kOpenaiChat, kToy, kChatRequest), R"({"model":"there","ask":"zażółć?"})");
  EXPECT_EQ(asked(kToy, kOpenaiChat, R"({"model":"m","ask":"why?"})"),
            R"({"model":"there","messages":[{"role":"user","content":"why?"}]})");
  EXPECT_EQ(string_member(asked(kToy, kAnthropicMessages, R"({"model":"m","ask":"why?"})"), "model")
                .decode(),
            "there");

  const std::string chat = heard(kToy, kOpenaiChat, kChatRequest,
                                 {R"({"said":"be"})", R"({"said":"cause","done":true})"});
  EXPECT_NE(chat.find(R"("content":"be")"), std::string::npos) << chat;
  EXPECT_NE(chat.find(R"("content":"cause")"), std::string::npos) << chat;
  EXPECT_NE(chat.find(R"("finish_reason":"stop")"), std::string::npos) << chat;
  EXPECT_TRUE(chat.ends_with("data: [DONE]\n\n")) << chat;
  EXPECT_EQ(heard(kOpenaiChat, kToy, R"({"model":"m","ask":"why?"})",
                  {R"({"choices":[{"index":0,"delta":{"content":"so"},"finish_reason":null}]})",
                   R"({"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]})", "[DONE]"}),
            "{\"said\":\"so\"}\n{\"done\":true}\n");
}

TEST(FifthFormat, has_its_own_paths_and_errors) {
  EXPECT_EQ(*upstream_path(kToy, "/base", "a/b", false), "/base/v9/a%2Fb/ask");
  EXPECT_EQ(*upstream_path(kToy, "/base/v2/", "m", true), "/base/v2/m/ask-slowly");
  EXPECT_EQ(list_path(kToy, ""), "/v9/list?all=1");
  const Error overloaded = kToy.decode_error(529, R"({"wrong":"too much"})");
  EXPECT_EQ(overloaded.message, "too much");
  EXPECT_EQ(client_status(kToy, overloaded), 503);
  Format knows = kToy;
  knows.knows_overloaded = true;
  EXPECT_EQ(client_status(knows, overloaded), 529);
}

}  // namespace
}  // namespace llm_proxy
