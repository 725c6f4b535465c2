// The smallest VST3 instrument, for tests: one cosine per key, LATENCY frames late, and it says so.
// Its keys 1, 2 and 3 misbehave: they give no sound, no numbers, and a crash.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "DistrhoPlugin.hpp"

START_NAMESPACE_DISTRHO

class Sine : public Plugin {
public:
    Sine() : Plugin(0, 0, 0) { setLatency(LATENCY); }

protected:
    const char* getLabel() const override { return "Sine"; }
    const char* getMaker() const override { return "dawbridge"; }
    const char* getLicense() const override { return "GPL-3.0-or-later"; }
    uint32_t getVersion() const override { return d_version(1, 0, 0); }
    int64_t getUniqueId() const override { return d_cconst('d', 'b', 'S', 'i'); }

    void activate() override {
        std::fill(level, level + 128, 0.0);
        std::fill(waiting, waiting + LATENCY, 0.f);
    }

    void run(const float**, float** out, uint32_t frames, const MidiEvent* events, uint32_t count) override {
        uint32_t next = 0;
        for (uint32_t frame = 0; frame < frames; ++frame, at = (at + 1) % LATENCY) {
            while (next < count && events[next].frame <= frame) hear(events[next++].data);
            out[0][frame] = out[1][frame] = waiting[at];
            waiting[at] = 0.f;
            for (int key = 0; key < 128; ++key) {
                if (level[key] == 0.0) continue;
                waiting[at] += (float)(level[key] * std::cos(phase[key]));
                phase[key] += 2 * M_PI * 440.0 * std::exp2((key - 69) / 12.0) / getSampleRate();
            }
        }
    }

private:
    static constexpr int LATENCY = 480, SILENCE = 1, NO_NUMBER = 2, CRASH = 3;
    float waiting[LATENCY] = {};
    int at = 0;
    double level[128] = {}, phase[128] = {};

    void hear(const uint8_t* message) {
        const bool on = (message[0] & 0xf0) == 0x90;
        if (!on && (message[0] & 0xf0) != 0x80) return;
        const uint8_t key = message[1];
        if (key == CRASH) std::abort();
        const double full = key == SILENCE ? 0.0 : key == NO_NUMBER ? NAN : 0.2;
        level[key] = on ? full * message[2] / 127.0 : 0.0;
        phase[key] = 0.0;
    }
};

Plugin* createPlugin() { return new Sine(); }

END_NAMESPACE_DISTRHO
