// Heads: a prefix never says more than the whole, every view lies in the input, and what was
// accepted has one reading.
#include <cstdlib>
#include <string_view>

#include "http/head.h"

namespace {

using namespace llm_proxy;

void check(bool holds) {
  if (!holds) std::abort();
}

bool within(std::string_view part, std::string_view whole) {
  return part.empty() ||
         (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

void check_message(const MessageHead& head, std::string_view bytes) {
  for (const Field& field : head.fields) {
    check(!field.name.empty() && within(field.name, bytes) && within(field.value, bytes));
    check(field.value.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos);
  }
  check(head.fields.count("content-length") <= 1);
  check(head.fields.count("content-length") == 0 || head.fields.count("transfer-encoding") == 0);
}

template <typename Parse>
void check_prefixes(std::string_view bytes, std::size_t length, Parse parse) {
  for (std::size_t cut = 0; cut < length; cut += 1 + length / 16) {
    const auto early = parse(bytes.substr(0, cut));
    check(static_cast<bool>(early) && *early == 0);
  }
  const auto exact = parse(bytes.substr(0, length));
  check(static_cast<bool>(exact) && *exact == length);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const HeadLimits limits{2048, 20};

  RequestHead request;
  const auto request_length = parse_request_head(bytes, limits, request);
  if (request_length && *request_length > 0) {
    check(*request_length <= limits.bytes &&
          bytes.substr(0, *request_length).ends_with("\r\n\r\n"));
    check_message(request, bytes);
    check(request.version_minor == 0 || request.fields.count("host") == 1);
    check(request.path.empty() == (request.method == "CONNECT"));
    check(within(request.path, bytes) || request.path == "/");
    RequestHead again;
    check_prefixes(bytes, *request_length,
                   [&](std::string_view part) { return parse_request_head(part, limits, again); });
  }

  ReplyHead reply;
  const auto reply_length = parse_reply_head(bytes, limits, false, reply);
  if (reply_length && *reply_length > 0) {
    check(*reply_length <= limits.bytes && bytes.substr(0, *reply_length).ends_with("\r\n\r\n"));
    check_message(reply, bytes);
    check(reply.status >= 100 && reply.status <= 599);
    ReplyHead again;
    check_prefixes(bytes, *reply_length, [&](std::string_view part) {
      return parse_reply_head(part, limits, false, again);
    });
  }
  return 0;
}
