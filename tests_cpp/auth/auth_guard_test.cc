#include "auth/auth_guard.h"

#include <gtest/gtest.h>

#include "auth/trusted_addresses.h"

namespace llm_proxy {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class AuthGuardTest : public testing::Test {
 protected:
  void guess(const std::string& key, const std::string& peer = "10.0.0.1") {
    guard.failed(peer, key, limits, clock.now());
  }
  void guess_times(int count, const std::string& peer = "10.0.0.1") {
    for (int i = 0; i < count; ++i) guess("guess-" + std::to_string(next_++), peer);
  }
  seconds waits(const std::string& peer = "10.0.0.1") {
    return std::chrono::duration_cast<seconds>(guard.blocked_for(peer, clock.now()));
  }

  VirtualClock clock;
  AuthGuard guard;
  AuthGuard::Limits limits;

 private:
  int next_ = 0;
};

TEST_F(AuthGuardTest, FiveDifferentWrongKeysMakeAnAddressWait) {
  guess_times(4);
  EXPECT_EQ(waits(), seconds(0));
  guess_times(1);
  EXPECT_EQ(waits(), seconds(30));
  EXPECT_EQ(waits("10.0.0.2"), seconds(0));
  clock.advance(seconds(29));
  EXPECT_EQ(waits(), seconds(1));
  clock.advance(seconds(1));
  EXPECT_EQ(waits(), seconds(0));
}

TEST_F(AuthGuardTest, AClientThatRepeatsItsOneWrongKeyGuessesNothing) {
  for (int i = 0; i < 1000; ++i) guess("typo");
  guess("");
  EXPECT_EQ(waits(), seconds(0));
}

TEST_F(AuthGuardTest, EachFurtherGuessDoublesTheWaitUpToItsLimit) {
  limits.max_block_seconds = seconds(100);
  guess_times(5);
  for (const auto expected : {seconds(30), seconds(60), seconds(100), seconds(100)}) {
    EXPECT_EQ(waits(), expected);
    clock.advance(expected);
    EXPECT_EQ(waits(), seconds(0));
    guess_times(1);
  }
}

TEST_F(AuthGuardTest, WhatIsOldIsForgotten) {
  guess_times(4);
  clock.advance(seconds(901));
  guess_times(4);
  EXPECT_EQ(waits(), seconds(0));
  guess_times(1);
  EXPECT_EQ(waits(), seconds(30));
  clock.advance(seconds(931));
  guess_times(4);
  EXPECT_EQ(waits(), seconds(0));
}

TEST_F(AuthGuardTest, AnIpv6CustomerIsOneAddress) {
  guess_times(3, "2001:db8:1:2::1");
  guess_times(2, "2001:db8:1:2:ffff::9");
  EXPECT_EQ(waits("2001:db8:1:2:3::4"), seconds(30));
  EXPECT_EQ(waits("2001:db8:1:3::1"), seconds(0));
}

TEST_F(AuthGuardTest, AMappedIpv4AddressIsThatAddress) {
  guess_times(5, "::ffff:10.0.0.1");
  EXPECT_EQ(waits("10.0.0.1"), seconds(30));
}

TEST_F(AuthGuardTest, SwitchedOffItNeverBlocks) {
  limits.enabled = false;
  guess_times(50);
  EXPECT_EQ(waits(), seconds(0));
}

TEST_F(AuthGuardTest, ALongRightKeyIsServedHoweverMuchOthersGuess) {
  const std::string long_key(AuthGuard::kUnguessable, 'k');
  guess_times(5);
  for (int i = 0; i < 1000; ++i) guard.tried_while_blocked("10.0.0.1", clock.now());
  EXPECT_TRUE(guard.admits("10.0.0.1", long_key, clock.now()));
  EXPECT_FALSE(guard.admits("10.0.0.1", long_key.substr(1), clock.now()));
}

TEST_F(AuthGuardTest, AShortRightKeyIsServedWhereItWasUsedBefore) {
  EXPECT_TRUE(guard.admits("10.0.0.1", "short", clock.now()));
  guess_times(5);
  for (int i = 0; i < 1000; ++i) guard.tried_while_blocked("10.0.0.1", clock.now());
  EXPECT_TRUE(guard.admits("10.0.0.1", "short", clock.now()));
  EXPECT_FALSE(guard.admits("10.0.0.1", "other", clock.now()));
  EXPECT_TRUE(guard.admits("10.0.0.2", "other", clock.now()));
}

TEST_F(AuthGuardTest, ManyAddressesPushOutTheOldestOnly) {
  guess_times(5, "10.9.9.9");
  for (std::size_t i = 0; i < AuthGuard::kAddresses - 1; ++i) {
    guess("one", "10.1." + std::to_string(i / 256) + "." + std::to_string(i % 256));
  }
  EXPECT_EQ(waits("10.9.9.9"), seconds(30));
  guess("one", "10.2.0.0");
  EXPECT_EQ(waits("10.9.9.9"), seconds(0));
}

TEST(TrustedAddressesTest, HoldsAddressesAndNetworks) {
  const auto trusted =
      TrustedAddresses::build("trusted_ips", {"10.0.0.7", "192.168.0.0/16", "::1", "fd00::/8"});
  ASSERT_TRUE(trusted);
  for (const auto* peer : {"10.0.0.7", "192.168.44.5", "::1", "fd12::9", "::ffff:10.0.0.7"}) {
    EXPECT_TRUE(trusted->contains(peer)) << peer;
  }
  for (const auto* peer : {"10.0.0.8", "192.169.0.1", "::2", "fe80::1", "", "nonsense"}) {
    EXPECT_FALSE(trusted->contains(peer)) << peer;
  }
}

TEST(TrustedAddressesTest, ZeroBitsAreEverybody) {
  EXPECT_TRUE(TrustedAddresses::build("trusted_ips", {"0.0.0.0/0"})->contains("8.8.8.8"));
}

TEST(TrustedAddressesTest, WhatIsNoAddressIsNamed) {
  for (const auto* text : {"home", "10.0.0.0/33", "10.0.0", "", "fd00::/129"}) {
    const auto refused = TrustedAddresses::build("trusted_ips", {text});
    ASSERT_FALSE(refused) << text;
    EXPECT_NE(refused.error().message.find(text), std::string::npos);
  }
}

}  // namespace
}  // namespace llm_proxy
