#include "exchange/ring_bodies.h"

#include <utility>

#include "json/graft.h"
#include "json/text.h"

namespace llm_proxy {
namespace {

Result<std::string> request_as(const Codec& client, std::string_view chat_body) {
  auto decoded = codec(WireFormat::openai_chat).decode_request(chat_body, {}, false);
  if (!decoded) return std::move(decoded).error();
  Translation translation;
  std::string out;
  if (auto encoded = client.encode_request(*decoded, translation, out); !encoded) {
    return std::move(encoded).error();
  }
  return out;
}

Result<std::string> reply_as(const Codec& client, const EncodeContext& context,
                             std::string_view chat_body) {
  const Translation translation;
  const auto decoder = codec(WireFormat::openai_chat).reply_decoder(translation);
  const auto encoder = client.whole_encoder(context);
  if (auto decoded = decoder->on_whole(chat_body, *encoder); !decoded) {
    return std::move(decoded).error();
  }
  return std::move(encoder->out());
}

}  // namespace

Result<std::string> chat_view(const Request& request, std::string_view model) {
  Translation translation;
  translation.upstream_model = model;
  translation.view = true;
  std::string out;
  auto encoded = codec(WireFormat::openai_chat).encode_request(request, translation, out);
  if (!encoded) return std::move(encoded).error();
  return out;
}

std::optional<std::string> edited_request(const Codec& client, std::string_view body,
                                          std::string_view view, std::string_view edited) {
  const auto before = request_as(client, view);
  const auto after = request_as(client, edited);
  if (!before || !after) return std::nullopt;
  return graft(body, *before, *after);
}

void hide_rest(const Placeholders& placeholders, std::string& body) {
  constexpr std::size_t kShort = 8;
  for (const auto& [placeholder, value] : placeholders) {
    if (value.size() < kShort) continue;
    std::string hidden, shown;
    Text::plain(placeholder).escape_to(hidden);
    Text::plain(value).escape_to(shown);
    for (auto at = body.find(shown); at != std::string::npos; at = body.find(shown, at)) {
      body.replace(at, shown.size(), hidden);
      at += hidden.size();
    }
  }
}

Result<std::string> edited_reply(const Codec& client, const EncodeContext& context,
                                 std::string_view body, std::string_view view,
                                 std::string_view edited) {
  auto after = reply_as(client, context, edited);
  const auto before = reply_as(client, context, view);
  if (!after || !before) return after;
  if (auto grafted = graft(body, *before, *after)) return *std::move(grafted);
  return after;
}

}  // namespace llm_proxy
