#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "formats/format.h"
#include "json/reader.h"

// What the fuzz targets of all codecs do: the input is a request, a reply, a stream and an error
// body in turn. Whatever comes out must be JSON, and what one codec writes another must read.
namespace llm_proxy::fuzz {

inline void check(bool holds) {
  if (!holds) std::abort();
}

inline bool is_json(std::string_view text) {
  JsonReader json(text);
  return valid_utf8(text) && json.skip() && json.finish();
}

inline void request(const Format& codec_of_input, std::string_view body) {
  Result<Request> request = codec_of_input.decode_request(body, "model", false);
  if (!request) return;
  for (int format = 0; format < kWireFormatCount; ++format) {
    Translation translation;
    translation.upstream_model = "claude-sonnet-4-5";
    std::string out;
    if (!format_of(static_cast<WireFormat>(format)).encode_request(*request, translation, out))
      continue;
    check(is_json(out));
  }
}

inline void check_frames(std::string_view stream) {
  while (!stream.empty()) {
    const std::size_t end = stream.find('\n');
    check(end != std::string_view::npos);
    const std::string_view line = stream.substr(0, end);
    stream.remove_prefix(end + 1);
    if (line.substr(0, 6) == "data: " && line != "data: [DONE]") check(is_json(line.substr(6)));
  }
}

// Events are cut at line ends of the input; a line that begins with '@' names the event.
inline void reply(const Format& codec_of_input, std::string_view input) {
  for (int format = 0; format < kWireFormatCount; ++format) {
    const Format& to = format_of(static_cast<WireFormat>(format));
    Request request;
    request.include_usage = true;
    Translation translation;
    translation.aliases.push_back({"f", "f", "", CallKind::custom});
    const EncodeContext context{&request, &translation, 7, "seed"};
    auto whole = to.whole_encoder(context);
    if (codec_of_input.reply_decoder(translation)->on_whole(input, *whole) &&
        !whole->out().empty()) {
      check(is_json(whole->out()));
    }
    auto stream = to.stream_encoder(context);
    auto decoder = codec_of_input.reply_decoder(translation);
    auto observer = codec_of_input.observer();
    std::string_view rest = input, event;
    bool good = true;
    while (good && !rest.empty()) {
      const std::size_t end = rest.find('\n');
      const std::string_view line = rest.substr(0, end);
      rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
      if (!line.empty() && line.front() == '@') {
        event = line.substr(1);
        continue;
      }
      // Exactly as large as it is, so that a read past its end is seen.
      const std::vector<char> data(line.begin(), line.end());
      observer->on_stream_event(event, {data.data(), data.size()});
      good =
          static_cast<bool>(decoder->on_stream_event(event, {data.data(), data.size()}, *stream));
      event = {};
    }
    if (good) static_cast<void>(decoder->on_stream_end(*stream));
    if (static_cast<WireFormat>(format) != WireFormat::gemini_generate) check_frames(stream->out());
  }
}

inline int run(const Format& codec_of_input, const std::uint8_t* data, std::size_t size) {
  const std::vector<char> bytes(data, data + size);
  const std::string_view input(bytes.data(), bytes.size());
  request(codec_of_input, input);
  reply(codec_of_input, input);
  std::string out;
  codec_of_input.encode_error(codec_of_input.decode_error(500, input), out);
  check(is_json(out));
  return 0;
}

}  // namespace llm_proxy::fuzz
