"""
Electrodes: names, places, montages and lobes; tables and the few functions that read them.

Channel names here are either an electrode of the 10-05 system (`"C3"`) or a bipolar pair (`"Fp1-F7"`, first minus
second). A file's own spelling goes through [`resolve_channel`] first. Grid coordinates and lobes are those of spec
sections 3 and 8.
"""

import re
from collections.abc import Sequence

import numpy as np


# Millimetres, right / front / up, of MNE 1.13's template of the 10-05 system (Colin 27 head), made by
#     mne.channels.make_standard_montage("colin27_1005").get_positions()["ch_pos"]
# without its aliases T3 T4 T5 T6 (see ALIASES). In Python, so that nobody needs MNE to know where an electrode is.
# fmt: off
POSITIONS: dict[str, tuple[float, float, float]] = {
    "Fp1": (-29.4367, 83.9171, -6.99), "Fpz": (0.1123, 88.247, -1.713), "Fp2": (29.8723, 84.8959, -7.08),
    "AF9": (-48.9708, 64.0872, -47.683), "AF7": (-54.8397, 68.5722, -10.59),
    "AF5": (-45.4307, 72.8622, 5.978), "AF3": (-33.7007, 76.8371, 21.227), "AF1": (-18.4717, 79.9041, 32.752),
    "AFz": (0.2313, 80.771, 35.417), "AF2": (19.8203, 80.3019, 32.764), "AF4": (35.7123, 77.7259, 21.956),
    "AF6": (46.5843, 73.8078, 6.034), "AF8": (55.7433, 69.6568, -10.755), "AF10": (50.4352, 63.8698, -48.005),
    "F9": (-70.1019, 41.6523, -49.952), "F7": (-70.2629, 42.4743, -11.42), "F5": (-64.4658, 48.0353, 16.921),
    "F3": (-50.2438, 53.1112, 42.192), "F1": (-27.4958, 56.9311, 60.342), "Fz": (0.3122, 58.512, 66.462),
    "F2": (29.5142, 57.6019, 59.54), "F4": (51.8362, 54.3048, 40.814), "F6": (67.9142, 49.8297, 16.367),
    "F8": (73.0431, 44.4217, -12.0), "F10": (72.1141, 42.0667, -50.452), "FT9": (-84.0759, 14.5673, -50.429),
    "FT7": (-80.775, 14.1203, -11.135), "FC5": (-77.2149, 18.6433, 24.46), "FC3": (-60.1819, 22.7162, 55.544),
    "FC1": (-34.0619, 26.0111, 79.987), "FCz": (0.3761, 27.39, 88.668), "FC2": (34.7841, 26.4379, 78.808),
    "FC4": (62.2931, 23.7228, 55.63), "FC6": (79.5341, 19.9357, 24.438), "FT8": (81.8151, 15.4167, -11.33),
    "FT10": (84.1131, 14.3647, -50.538), "T9": (-85.8941, -15.8287, -48.283),
    "T7": (-84.1611, -16.0187, -9.346), "C5": (-80.2801, -13.7597, 29.16), "C3": (-65.3581, -11.6317, 64.358),
    "C1": (-36.158, -9.9839, 89.752), "Cz": (0.4009, -9.167, 100.244), "C2": (37.672, -9.6241, 88.412),
    "C4": (67.1179, -10.9003, 63.58), "C6": (83.4559, -12.7763, 29.208), "T8": (85.0799, -15.0203, -9.49),
    "T10": (85.5599, -16.3613, -48.271), "TP9": (-85.6192, -46.5147, -45.707),
    "TP7": (-84.8302, -46.0217, -7.056), "CP5": (-79.5922, -46.5507, 30.949),
    "CP3": (-63.5562, -47.0088, 65.624), "CP1": (-35.5131, -47.2919, 91.315),
    "CPz": (0.3858, -47.318, 99.432), "CP2": (38.3838, -47.0731, 90.695), "CP4": (66.6118, -46.6372, 65.58),
    "CP6": (83.3218, -46.1013, 31.206), "TP8": (85.5488, -45.5453, -7.13), "TP10": (86.1618, -47.0353, -45.869),
    "P9": (-73.0093, -73.7657, -40.998), "P7": (-72.4343, -73.4527, -2.487),
    "P5": (-67.2723, -76.2907, 28.382), "P3": (-53.0073, -78.7878, 55.94), "P1": (-28.6203, -80.5249, 75.436),
    "Pz": (0.3247, -81.115, 82.615), "P2": (31.9197, -80.4871, 76.716), "P4": (55.6667, -78.5602, 56.561),
    "P6": (67.8877, -75.9043, 28.091), "P8": (73.0557, -73.0683, -2.54), "P10": (73.8947, -74.3903, -41.22),
    "PO9": (-54.9104, -98.0448, -35.465), "PO7": (-54.8404, -97.5279, 2.792),
    "PO5": (-48.4244, -99.3408, 21.599), "PO3": (-36.5114, -100.8529, 37.167),
    "PO1": (-18.9724, -101.768, 46.536), "POz": (0.2156, -102.178, 50.608), "PO2": (19.8776, -101.793, 46.393),
    "PO4": (36.7816, -100.8491, 36.397), "PO6": (49.8196, -99.4461, 21.727),
    "PO8": (55.6666, -97.6251, 2.73), "PO10": (54.9876, -98.0911, -35.541), "O1": (-29.4134, -112.449, 8.839),
    "Oz": (0.1076, -114.892, 14.657), "O2": (29.8426, -112.156, 8.8), "I1": (-29.8184, -114.57, -29.216),
    "Iz": (0.0045, -118.565, -23.078), "I2": (29.7416, -114.26, -29.256), "AFp9h": (-43.2897, 75.8552, -28.244),
    "AFp7h": (-38.5517, 79.9532, -4.995), "AFp5h": (-27.9857, 82.4591, 2.702),
    "AFp3h": (-17.1947, 84.8491, 10.027), "AFp1h": (-5.9317, 86.878, 16.2), "AFp2h": (7.1053, 87.074, 16.469),
    "AFp4h": (18.9233, 85.5969, 11.443), "AFp6h": (28.6443, 82.9759, 2.828),
    "AFp8h": (39.3203, 80.6868, -4.725), "AFp10h": (43.8223, 76.5418, -28.307),
    "AFF9h": (-63.2538, 53.8573, -30.316), "AFF7h": (-61.3508, 58.7992, 0.897),
    "AFF5h": (-50.7998, 64.0412, 23.089), "AFF3h": (-34.3157, 68.3931, 41.188),
    "AFF1h": (-11.4357, 70.7561, 50.348), "AFF2h": (13.4793, 71.201, 51.175),
    "AFF4h": (36.1833, 69.1509, 41.254), "AFF6h": (52.3972, 65.0708, 22.862),
    "AFF8h": (62.9152, 60.0448, 0.63), "AFF10h": (64.3342, 54.5998, -30.444),
    "FFT9h": (-79.0669, 28.0813, -31.253), "FFT7h": (-74.4999, 31.3003, 4.846),
    "FFC5h": (-65.2379, 36.4282, 36.144), "FFC3h": (-44.4098, 40.7622, 61.69),
    "FFC1h": (-15.4238, 43.66, 77.682), "FFC2h": (17.5922, 44.054, 77.788), "FFC4h": (45.8532, 41.6228, 60.647),
    "FFC6h": (67.1281, 37.7998, 35.296), "FFT8h": (78.0531, 32.9817, 4.483),
    "FFT10h": (80.0971, 28.5137, -31.338), "FTT9h": (-84.125, -1.8467, -29.794),
    "FTT7h": (-82.355, 0.8263, 8.579), "FCC5h": (-74.692, 4.3033, 45.307), "FCC3h": (-51.0509, 7.1772, 74.377),
    "FCC1h": (-18.219, 9.0941, 92.529), "FCC2h": (18.787, 9.2479, 91.562), "FCC4h": (51.8851, 7.7978, 73.507),
    "FCC6h": (77.002, 5.3357, 45.35), "FTT8h": (83.888, 1.9457, 8.501), "FTT10h": (84.123, -1.8083, -29.638),
    "TTP9h": (-86.9731, -32.2157, -27.848), "TTP7h": (-85.5651, -30.6287, 11.153),
    "CCP5h": (-76.4071, -29.7307, 49.217), "CCP3h": (-52.9281, -28.9058, 80.304),
    "CCP1h": (-18.3541, -28.3219, 98.22), "CCP2h": (20.2199, -28.1481, 98.172),
    "CCP4h": (55.1139, -28.3862, 80.474), "CCP6h": (79.0059, -28.9863, 49.628),
    "TTP8h": (85.9999, -29.8203, 11.248), "TTP10h": (88.6249, -32.2723, -28.0),
    "TPP9h": (-78.1602, -60.7567, -23.824), "TPP7h": (-76.6802, -60.8317, 12.88),
    "CPP5h": (-68.1152, -62.9747, 47.252), "CPP3h": (-46.9142, -64.6908, 75.296),
    "CPP1h": (-15.8202, -65.5999, 91.164), "CPP2h": (19.4198, -65.595, 92.405),
    "CPP4h": (50.6738, -64.4822, 76.13), "CPP6h": (71.0958, -62.6243, 47.328),
    "TPP8h": (78.5198, -60.4323, 12.902), "TPP10h": (78.9027, -60.9553, -23.805),
    "PPO9h": (-64.5973, -87.6558, -19.014), "PPO7h": (-62.9593, -87.5028, 12.952),
    "PPO5h": (-54.0103, -89.8988, 37.332), "PPO3h": (-35.8874, -91.6669, 55.504),
    "PPO1h": (-12.0474, -92.6069, 65.508), "PPO2h": (13.9226, -92.694, 66.958),
    "PPO4h": (37.7986, -91.6291, 56.733), "PPO6h": (54.6087, -89.6402, 37.035),
    "PPO8h": (63.1117, -87.2282, 12.856), "PPO10h": (65.0137, -87.8062, -18.952),
    "POO9h": (-42.8624, -108.073, -13.151), "POO7h": (-40.1204, -107.129, 12.061),
    "POO5h": (-31.9514, -108.252, 23.047), "POO3h": (-19.8624, -108.942, 29.76),
    "POO1h": (-6.9194, -109.26, 32.71), "POO2h": (6.8036, -109.163, 31.582),
    "POO4h": (20.2936, -108.914, 28.944), "POO6h": (32.1756, -108.252, 22.255),
    "POO8h": (41.0976, -107.245, 12.138), "POO10h": (43.8946, -109.127, -13.17),
    "OI1h": (-14.8504, -117.987, -6.92), "OI2h": (15.0946, -118.018, -6.933),
    "Fp1h": (-14.8107, 87.2351, -4.477), "Fp2h": (15.1623, 88.091, -4.551), "AF9h": (-54.8298, 66.4132, -29.704),
    "AF7h": (-51.1757, 70.8362, -1.755), "AF5h": (-39.6407, 74.8671, 13.678),
    "AF3h": (-27.2187, 78.7091, 28.375), "AF1h": (-9.1977, 80.6051, 35.133),
    "AF2h": (10.4823, 80.865, 35.359), "AF4h": (28.5803, 79.3029, 28.47), "AF6h": (40.9403, 75.7399, 13.86),
    "AF8h": (52.0293, 71.8468, -1.92), "AF10h": (55.7542, 67.1698, -29.824),
    "F9h": (-71.5079, 41.1193, -30.854), "F7h": (-68.5558, 45.2843, 3.002), "F5h": (-58.4878, 50.6722, 30.192),
    "F3h": (-39.9798, 55.2601, 52.6), "F1h": (-13.3838, 57.9021, 64.332), "F2h": (15.8342, 58.4559, 64.992),
    "F4h": (41.7942, 56.2259, 51.499), "F6h": (60.0522, 52.0858, 28.708), "F8h": (71.9592, 47.1917, 2.475),
    "F10h": (72.7981, 41.8218, -31.026), "FT9h": (-82.9559, 13.3203, -30.808),
    "FT7h": (-80.1139, 16.3903, 6.85), "FC5h": (-71.2099, 20.8203, 41.324), "FC3h": (-48.5119, 24.5292, 69.136),
    "FC1h": (-17.3439, 27.0241, 86.923), "FC2h": (18.4181, 27.2709, 86.437),
    "FC4h": (49.5481, 25.2378, 68.43), "FC6h": (73.2191, 22.0067, 41.297), "FT8h": (81.5801, 17.6837, 6.564),
    "FT10h": (83.3711, 13.5477, -30.749), "T9h": (-85.1321, -17.0557, -28.731),
    "T7h": (-82.9461, -14.8827, 10.009), "C5h": (-75.2941, -12.6397, 47.904),
    "C3h": (-51.5811, -10.7548, 78.035), "C1h": (-18.279, -9.4319, 97.356), "C2h": (19.678, -9.3041, 95.706),
    "C4h": (53.8059, -10.1442, 77.73), "C6h": (78.1249, -11.7353, 47.84), "T8h": (85.1369, -13.9063, 9.89),
    "T10h": (86.0999, -17.0883, -28.756), "TP9h": (-84.8102, -47.2457, -26.22),
    "TP7h": (-82.7042, -46.2977, 11.974), "CP5h": (-73.3012, -46.7917, 49.109),
    "CP3h": (-51.0492, -47.1758, 80.016), "CP1h": (-17.3542, -47.3419, 97.41),
    "CP2h": (20.6798, -47.2321, 98.072), "CP4h": (53.9968, -46.8902, 80.077),
    "CP6h": (76.5498, -46.3733, 49.14), "TP8h": (85.1998, -45.8073, 12.102),
    "TP10h": (85.4428, -47.2213, -26.176), "P9h": (-72.1773, -74.6277, -21.536),
    "P7h": (-70.1133, -74.8677, 12.999), "P5h": (-61.7283, -77.6238, 43.028),
    "P3h": (-41.6733, -79.7528, 66.715), "P1h": (-13.9613, -81.0029, 81.003),
    "P2h": (17.2977, -80.981, 81.641), "P4h": (44.7477, -79.6111, 67.655), "P6h": (63.6267, -77.3022, 43.119),
    "P8h": (72.1037, -74.4993, 13.025), "P10h": (73.2817, -75.0773, -21.576),
    "PO9h": (-54.7754, -98.9768, -16.193), "PO7h": (-51.9284, -98.4438, 12.304),
    "PO5h": (-43.3424, -100.1629, 30.009), "PO3h": (-28.0074, -101.361, 42.379),
    "PO1h": (-9.5034, -102.06, 49.418), "PO2h": (10.2356, -102.029, 48.942),
    "PO4h": (28.6476, -101.3901, 42.138), "PO6h": (44.2206, -100.2191, 29.808),
    "PO8h": (52.8386, -98.536, 12.25), "PO10h": (55.8596, -99.894, -16.208),
    "O1h": (-14.8054, -115.1, 11.829), "O2h": (15.1456, -115.191, 11.833), "I1h": (-15.1584, -118.242, -26.048),
    "I2h": (15.1286, -118.151, -26.081), "AFp9": (-36.1247, 72.3801, -45.852),
    "AFp7": (-43.5117, 78.5802, -9.24), "AFp5": (-33.2847, 81.2071, -1.14), "AFp3": (-22.3517, 83.5621, 6.071),
    "AFp1": (-12.2417, 86.1941, 14.188), "AFpz": (0.1703, 87.322, 17.442), "AFp2": (13.6223, 86.7579, 15.302),
    "AFp4": (24.1013, 84.3769, 7.433), "AFp6": (33.9133, 81.8119, -1.035), "AFp8": (43.9483, 79.2958, -9.3),
    "AFp10": (37.7123, 72.1679, -46.197), "AFF9": (-59.3398, 52.6802, -48.77),
    "AFF7": (-63.2618, 55.9922, -11.173), "AFF5": (-55.8198, 61.3962, 11.884),
    "AFF3": (-43.3817, 66.3672, 32.811), "AFF1": (-23.5817, 69.9171, 47.293),
    "AFFz": (0.2763, 71.28, 52.092), "AFF2": (25.5583, 70.5559, 47.827), "AFF4": (45.1522, 67.2748, 32.731),
    "AFF6": (58.0002, 62.5998, 11.9), "AFF8": (64.6732, 57.2738, -11.46), "AFF10": (60.6012, 52.2668, -49.038),
    "FFT9": (-78.4839, 28.7703, -50.522), "FFT7": (-76.6149, 28.6533, -11.508),
    "FFC5": (-71.5059, 33.9263, 20.993), "FFC3": (-55.9399, 38.7162, 49.788),
    "FFC1": (-30.6548, 42.4151, 71.04), "FFCz": (0.3512, 44.074, 79.141), "FFC2": (32.6451, 43.1009, 70.795),
    "FFC4": (57.5042, 39.8518, 48.811), "FFC6": (74.2501, 35.4997, 20.38), "FFT8": (79.0341, 30.3437, -11.997),
    "FFT10": (79.9201, 28.9417, -50.914), "FTT9": (-87.362, -0.5147, -49.837),
    "FTT7": (-82.668, -0.9417, -10.284), "FCC5": (-80.133, 2.5853, 27.312), "FCC3": (-64.161, 5.8313, 60.885),
    "FCC1": (-35.749, 8.3091, 85.459), "FCCz": (0.3911, 9.508, 95.56), "FCC2": (36.07, 8.6519, 83.832),
    "FCC4": (65.164, 6.6198, 60.052), "FCC6": (81.544, 3.6637, 27.201), "FTT8": (83.168, 0.1817, -10.364),
    "FTT10": (85.393, -0.9523, -49.52), "TTP9": (-86.6321, -31.2377, -47.178),
    "TTP7": (-85.9331, -31.0927, -8.474), "CCP5": (-81.5431, -30.1727, 30.273),
    "CCP3": (-66.1281, -29.2957, 65.898), "CCP1": (-36.9301, -28.5699, 91.734),
    "CCPz": (0.3959, -28.163, 101.269), "CCP2": (38.5399, -28.2251, 90.976),
    "CCP4": (68.8539, -28.6403, 66.41), "CCP6": (84.5529, -29.3783, 30.878),
    "TTP8": (85.9999, -30.2803, -8.435), "TTP10": (86.7619, -31.7313, -47.253),
    "TPP9": (-80.7152, -60.6457, -43.594), "TPP7": (-78.5992, -59.7237, -4.758),
    "CPP5": (-73.6642, -61.9227, 30.38), "CPP3": (-59.4112, -63.9248, 62.672),
    "CPP1": (-32.7283, -65.3199, 85.944), "CPPz": (0.3658, -65.75, 94.058), "CPP2": (35.8918, -65.1381, 85.98),
    "CPP4": (62.2558, -63.6152, 62.719), "CPP6": (76.6708, -61.5483, 30.543),
    "TPP8": (79.3188, -59.3033, -4.84), "TPP10": (81.5598, -61.2153, -43.8),
    "PPO9": (-64.5703, -86.4318, -38.324), "PPO7": (-64.5833, -86.2218, 0.033),
    "PPO5": (-58.7123, -88.7048, 25.193), "PPO3": (-46.1603, -90.8878, 47.446),
    "PPO1": (-24.6483, -92.2919, 62.076), "PPOz": (0.2727, -92.758, 67.342),
    "PPO2": (26.4367, -92.2951, 63.199), "PPO4": (47.1437, -90.7122, 47.678),
    "PPO6": (60.8127, -88.5042, 25.662), "PPO8": (65.1517, -85.9432, -0.009),
    "PPO10": (65.0377, -86.7182, -38.448), "POO9": (-43.1284, -107.516, -32.387),
    "POO7": (-42.9764, -106.493, 5.773), "POO5": (-36.2344, -107.716, 17.75),
    "POO3": (-25.9844, -108.616, 26.544), "POO1": (-13.6644, -109.266, 32.856),
    "POOz": (0.1676, -109.276, 32.79), "POO2": (13.6506, -109.106, 30.936), "POO4": (26.6636, -108.668, 26.415),
    "POO6": (37.7006, -107.84, 18.069), "POO8": (43.6696, -106.599, 5.726), "POO10": (43.1766, -107.444, -32.463),
    "OI1": (-29.3914, -114.511, -10.02), "OIz": (0.0525, -119.343, -3.936), "OI2": (29.5526, -113.636, -10.051),
    "M1": (-86.0761, -44.9897, -67.986), "M2": (85.7939, -45.0093, -68.031),
    "A1": (-86.0761, -24.9897, -67.986), "A2": (85.7939, -25.0093, -68.031),
}

DOUBLE_BANANA = (
    "Fp1-F7", "F7-T7", "T7-P7", "P7-O1", "Fp2-F8", "F8-T8", "T8-P8", "P8-O2", "T7-C3", "C3-Cz",
    "Cz-C4", "C4-T8", "Fp1-F3", "F3-C3", "C3-P3", "P3-O1", "Fp2-F4", "F4-C4", "C4-P4", "P4-O2",
)
# Spec section 2.2; the order is the model's.
MONTAGES: dict[str, tuple[str, ...]] = {
    "double_banana": DOUBLE_BANANA,
    "bcic_iv_2a": (
        "C5-C1", "C3-Cz", "Cz-C4", "C2-C6", "Fz-C5", "C5-P1", "CP3-POz", "Fz-C1",
        "C1-Pz", "CP1-POz", "Fz-C2", "C2-Pz", "CP2-POz", "Fz-C6", "C6-P2", "CP4-POz",
    ),
    "bcic_iv_2a_monopolar": (
        "Fz", "FC3", "FC1", "FCz", "FC2", "FC4", "C5", "C3", "C1", "Cz", "C2",
        "C4", "C6", "CP3", "CP1", "CPz", "CP2", "CP4", "P1", "Pz", "P2", "POz",
    ),
    "bcic_iv_2b": ("C3-Cz", "Cz-C4"),
    "bcic_iv_2b_monopolar": ("C3", "Cz", "C4"),
    "seed_v": (
        "Fp1", "Fp2", "F7", "F3", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "P4", "P8", "O1", "O2",
    ),
    "sleep_edfx": ("Fpz-Cz", "Pz-Oz"),
}
# fmt: on

LOBES = ("frontal", "parietal", "occipital", "temporal left", "temporal right")
# Spec section 8: channel numbers of each group. Montages that are not listed here follow LOBES by their electrodes.
MONTAGE_LOBES: dict[str, tuple[tuple[int, ...], ...]] = {
    "double_banana": ((0, 4, 12, 16), (8, 9, 10, 11, 13, 14, 17, 18), (3, 7, 15, 19), (1, 2, 8), (5, 6, 11)),
    "bcic_iv_2a": ((4, 7, 10, 13), (0, 1, 2, 3), (5, 6, 8, 9), (11, 12, 14, 15)),
    "bcic_iv_2b": ((0,), (1,)),
    "bcic_iv_2b_monopolar": ((0,), (1,), (2,)),
    "seed_v": (tuple(range(6)), tuple(range(6, 11)), tuple(range(11, 17))),
}

# Head frame of spec section 3: p = rint((position - origin) * scale), metres to grid units.
HEAD_ORIGIN = np.array([-0.0782977, -0.0956184, -0.0107450])
HEAD_SCALE = 296.5765
# Montage frame of spec section 3, the authors' own: the largest coordinate of a montage becomes this.
MONTAGE_FRAME_EXTENT = 49
# What the released code takes for a pair of that montage in its place (spec section 3).
AUTHORS_SLIP = {"double_banana": {"Fp1-F3": "Fp2-F3"}}

# Other names of the same place: the 10-20 system before 1991, mastoids and ear lobes.
ALIASES = {
    "T3": "T7",
    "T4": "T8",
    "T5": "P7",
    "T6": "P8",
    "O9": "I1",
    "O10": "I2",
    "LM": "M1",
    "RM": "M2",
    "MA1": "M1",
    "MA2": "M2",
}
CANONICAL = {name.upper(): name for name in POSITIONS} | ALIASES

# What follows an electrode's name where a file names its common reference.
_REFERENCE = r"(?:REF|LER?|CLE|AV(?:G\w*)?|AR|A1\+?A2|M1\+?M2|X)"
_PREFIX = re.compile(r"^(?:(?:EEG|POL)[\s:_.\-]+)+", re.IGNORECASE)
_SUFFIX = re.compile(rf"[\s_\-]+\(?{_REFERENCE}\)?$", re.IGNORECASE)
_DUPLICATE = re.compile(r"(?<=[^\s\-]-)(.+)-\d$")
# Kinds of channels that are no EEG, by words in their names; the first that fits.
_NON_EEG = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        ("TRIG", r"^(sti(m\b| ?\d|$)|trig|dig |status|.*\bmarkers?$|mark\d|mk$|event|target$|pat$|tech$)"),
        ("ECG", r"e[ck]g"),
        ("EOG", r"eog|^[hv]eo|^(loc|roc|luc|rlc)\b"),
        ("EMG", r"emg|chin|leg\b"),
        ("RESP", r"resp|thor|abdo?\b|flow|chest|termistore"),
        ("SpO2", r"s[ap][o0]2|osat|aso2"),
        ("CO2", r"^(et)?co2"),
        ("PPG", r"^(plet|ppg)"),
        ("HR", r"^(pulse|h(eart)?rate)"),
        ("TEMP", r"^temp"),
        ("GSR", r"^gsr$"),
        ("PHOTIC", r"^pho(tic)?\b"),
        ("MEG", r"^meg"),
        ("ACC", r"^acc\d*$"),
        ("DC", r"^dc\d+"),
        ("REF", r"^(re)?ref\b"),
        ("VNS", r"^vns$"),
        ("INTERNAL", r"^\$"),
        ("DUMMY", r"^(-+\d?)?$"),
        ("AUX", r"aux|^(accel|digital|gyro|counter|interpolated|sync|time_?stamp|exg|erg|gsr|bip)\w*\b"),
    )
)
# Sites of dense nets that share a spelling with something else, and bare numbers of caps.
_AMBIGUOUS = re.compile(
    r"^(E\d{1,3}|[ABDG]\d{1,2}|C([7-9]|[12]\d|3[0-2])|EEG ?\d{3}|[LR]{1,2}[A-E]?\d+|Z\d+)$", re.IGNORECASE
)


def resolve_channel(name: str) -> str:
    """
    What a recording's channel name means.

    Case, dots, blanks, prefixes (`EEG `, `POL `, `EEG:`), the name of a common reference (`-REF`, `-LE`, `-A1A2`), the
    old names T3 T4 T5 T6 and the numbers that MNE gives to duplicates (`T8-P8-0`) do not matter.

    Returns:
        an electrode of the 10-05 system (`"C3"`), a bipolar pair of two (`"Fp1-F7"`), `"non-eeg:KIND"`, `"ambiguous"`
        (the spelling means different places on different caps) or `"unknown"`.
    """
    text = re.sub(r"\s+", " ", name).strip().rstrip(".").strip()
    stripped = _PREFIX.sub("", text)
    stripped = _DUPLICATE.sub(r"\1", stripped)
    bare = _SUFFIX.sub("", stripped)
    if bare.upper() in CANONICAL:
        return CANONICAL[bare.upper()]
    first, separator, second = (part.strip() for part in bare.partition("-"))
    if separator and first.upper() in CANONICAL and second.upper() in CANONICAL:
        return f"{CANONICAL[first.upper()]}-{CANONICAL[second.upper()]}"
    for kind, pattern in _NON_EEG:
        if pattern.search(bare):
            return f"non-eeg:{kind}"
    return "ambiguous" if _AMBIGUOUS.match(text) or _AMBIGUOUS.match(bare) else "unknown"


def positions_of(channels: Sequence[str]) -> np.ndarray:
    """Template positions in metres, right / front / up, `[C, 3]`; a pair lies at the midpoint of its electrodes."""
    return np.array([np.mean([POSITIONS[e] for e in channel.split("-")], axis=0) for channel in channels]) / 1000


def grid_positions(channels: Sequence[str], frame: str = "head", montage: str | None = None) -> np.ndarray:
    """
    Coordinates for the model's spatial code, `[C, 3]`, whole numbers as float32 (spec section 3).

    Args:
        channels: canonical electrodes or pairs.
        frame: `"head"`, the same place for an electrode in every montage, or `"montage"`, the authors' rescaling,
            where the coordinates depend on which channels stand together.
        montage: name of the montage that the channels are; frame `"montage"` repeats the released code's slip in it.
    """
    if frame == "head":
        grid = (positions_of(channels) - HEAD_ORIGIN) * HEAD_SCALE
    else:
        slip = AUTHORS_SLIP.get(montage, {})
        grid = positions_of([slip.get(channel, channel) for channel in channels])
        grid = grid - grid.min(axis=0)
        extent = grid.max()
        grid = grid * (MONTAGE_FRAME_EXTENT / extent if extent > 0 else 0.0)
    return np.rint(grid).astype(np.float32)


def lobe_membership(channels: Sequence[str], montage: str | None = None) -> np.ndarray:
    """
    Which lobes each channel belongs to, bool `[C, lobes]` (spec section 8): the groups of a named montage, otherwise
    the five [`LOBES`], one for each electrode; a pair belongs where the electrode next to its midpoint does.
    """
    if montage in MONTAGE_LOBES:
        groups = MONTAGE_LOBES[montage]
        return np.array([[index in group for group in groups] for index in range(len(channels))])
    numbers = [_lobe_of_electrode(_nearest_electrode(channel)) for channel in channels]
    return np.eye(len(LOBES), dtype=bool)[numbers]


def _nearest_electrode(channel: str) -> str:
    """The channel itself, or, for a pair, the electrode next to its midpoint."""
    if channel in POSITIONS:
        return channel
    names = list(POSITIONS)
    distances = np.linalg.norm(positions_of(names) - positions_of([channel]), axis=1)
    return names[int(distances.argmin())]


def _lobe_of_electrode(electrode: str) -> int:
    """Number in LOBES, by the letters of the name; central and parietal rows only as far out as F7 and F8."""
    row = re.match(r"[A-Z]+[a-z]?(?=[\dz])", electrode).group().rstrip("h").upper()
    x = POSITIONS[electrode][0]
    temporal = LOBES.index("temporal left" if x < 0 else "temporal right")
    if row in ("FP", "AFP", "AF", "AFF", "F"):
        return LOBES.index("frontal")
    if row in ("PPO", "PO", "POO", "O", "OI", "I"):
        return LOBES.index("occipital")
    if row in ("FFC", "FC", "FCC", "C", "CCP", "CP", "CPP", "P"):
        border = POSITIONS["F7" if x < 0 else "F8"][0]
        return temporal if abs(x) >= abs(border) else LOBES.index("parietal")
    return temporal  # FFT to TPP, mastoids and ear lobes


__all__ = [
    "LOBES",
    "MONTAGES",
    "MONTAGE_LOBES",
    "POSITIONS",
    "grid_positions",
    "lobe_membership",
    "positions_of",
    "resolve_channel",
]
