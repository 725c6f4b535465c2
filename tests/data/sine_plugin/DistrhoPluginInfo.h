// What DPF wants to know of the plug-in in sine.cpp.
#define DISTRHO_PLUGIN_BRAND "dawbridge"
#define DISTRHO_PLUGIN_NAME "Sine"
#define DISTRHO_PLUGIN_URI "urn:dawbridge:sine"
#define DISTRHO_PLUGIN_HAS_UI 0
#define DISTRHO_PLUGIN_IS_SYNTH 1
#define DISTRHO_PLUGIN_NUM_INPUTS 0
#define DISTRHO_PLUGIN_NUM_OUTPUTS 2
#define DISTRHO_PLUGIN_WANT_LATENCY 1
#define DISTRHO_PLUGIN_WANT_MIDI_INPUT 1
#define DISTRHO_PLUGIN_VST3_CATEGORIES "Instrument|Synth"
