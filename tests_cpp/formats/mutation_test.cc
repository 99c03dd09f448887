#include <gtest/gtest.h>

#include <random>

#include "support.h"
#include "tests_cpp/fuzz/codec_fuzz.h"

namespace llm_proxy {
namespace {

// The fuzz targets' checks over their seeds, each changed in a few thousand fixed ways: what runs
// everywhere, also where there is no fuzzer.
TEST(Mutation, whatever_comes_in_only_json_goes_out) {
  int runs = 0;
  for (const WireFormat format : {WireFormat::openai_chat, WireFormat::anthropic_messages}) {
    std::string folder(name(format));
    std::replace(folder.begin(), folder.end(), '-', '_');
    for (const auto& entry : std::filesystem::directory_iterator(
             std::filesystem::path(LLM_PROXY_SOURCE_DIR) / "tests_cpp/fuzz/corpus" / folder)) {
      std::ifstream file(entry.path());
      const std::string seed{std::istreambuf_iterator<char>(file), {}};
      std::mt19937 random(1);
      const auto below = [&](std::size_t bound) {
        return random() % std::max<std::size_t>(bound, 1);
      };
      for (int round = 0; round < 2000; ++round, ++runs) {
        std::string input = seed;
        for (std::size_t change = below(4); change-- > 0 && !input.empty();) {
          const std::size_t at = below(input.size());
          constexpr std::string_view kBytes = "{}[]\",:\\0n-\n@u\xff\x01 ";
          switch (below(5)) {
            case 0:
              input[at] = kBytes[below(kBytes.size())];
              break;
            case 1:
              input.insert(at, 1, kBytes[below(kBytes.size())]);
              break;
            case 2:
              input.erase(at, below(20));
              break;
            case 3:
              input.insert(at, input.substr(below(input.size()), below(80)));
              break;
            case 4:
              input.resize(at);
              break;
          }
        }
        fuzz::run(format_of(format), reinterpret_cast<const std::uint8_t*>(input.data()),
                  input.size());
      }
    }
  }
  EXPECT_GE(runs, 10'000);
}

}  // namespace
}  // namespace llm_proxy
