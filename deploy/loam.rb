# A Homebrew formula, for a tap of your own:
#
#   brew tap-new local/loam && cp deploy/loam.rb "$(brew --repository local/loam)/Formula/"
#   HOMEBREW_LOAM_REPO=file://$PWD brew install --HEAD local/loam/loam
#
# then `brew services start loam`, or `sudo loam service install --model M` to serve before anyone logs in.
class Loam < Formula
  desc "Serve large language models on the machines you own"
  license "Apache-2.0"
  head ENV.fetch("HOMEBREW_LOAM_REPO", "file:///usr/local/src/loam"), using: :git, branch: "main"

  depends_on "pkgconf" => :build
  depends_on "curl"
  depends_on "jansson"
  depends_on "libedit"
  depends_on "libevent"
  depends_on "openssl@3"
  depends_on "pcre2"
  depends_on "sqlite"
  depends_on "utf8proc"

  on_linux do
    depends_on "libseccomp"
  end

  def install
    system "make", "NO_INSTALL=1"
    system "make", "install", "NO_INSTALL=1", "PREFIX=#{prefix}"
    # where Homebrew's shells look
    bash_completion.install share/"bash-completion/completions/loam"
    zsh_completion.install share/"zsh/site-functions/_loam" unless zsh_completion == share/"zsh/site-functions"
    fish_completion.install share/"fish/vendor_completions.d/loam.fish" unless fish_completion == share/"fish/vendor_completions.d"
    (etc/"loam").install "deploy/loam.conf" unless (etc/"loam/loam.conf").exist?
  end

  service do
    run [opt_bin/"loam", "serve", "--sandbox", "--settings", etc/"loam/loam.conf"]
    keep_alive true
    log_path var/"log/loam.log"
    error_log_path var/"log/loam.error.log"
  end

  test do
    assert_match "loam #{version}", shell_output("#{bin}/loam --version") unless head?
    assert_match "serve", shell_output("#{bin}/loam --help")
    assert_match "no-such-model", shell_output("#{bin}/loam show no-such-model 2>&1", 1)
  end
end
